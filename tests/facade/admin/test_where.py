"""Where things are, from what this node knows."""

import pytest

from cluster.cluster import MemberTag
from facade.admin.where import Where
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.records import Content
from node.reference import Tag
from tests.facade.admin.known import CID, FACADE, Known, holder, index, manifest, seen

CONFIG, LAYER, OTHER = b"{}", b"a layer", b"another layer"
LATEST = Tag.parse("latest")


@pytest.fixture
def known() -> Known:
    """A node that pulled `app:latest`, one layer excepted."""
    known = Known()
    known.keep(CONFIG)
    known.keep(LAYER)
    known.tags[LATEST] = seen(LATEST, known.keep(manifest(CONFIG, LAYER, OTHER)), 100.0)
    return known


@pytest.fixture
def where(known: Known) -> Where:
    """What answers from it."""
    return Where(known, known, known.owned, known, ("docker.io", "ghcr.io"), FACADE)


async def test_a_tag_lists_every_blob_that_its_manifest_names(where: Where) -> None:
    report = await where.answer("app", now=200.0)
    assert [blob.role for blob in report.blobs] == ["manifest", "config", "layer", "layer"]
    assert [blob.here for blob in report.blobs] == [True, True, True, False]
    assert (report.seen_at, report.seen_by, report.here) == (100.0, None, False)


async def test_a_blob_that_is_elsewhere_has_the_peers_cid_and_size(known: Known, where: Where) -> None:
    known.held_by[Digest.of(OTHER)] = (holder("left"), holder("right"))
    report = await where.answer("app", now=200.0)
    blob = report.blobs[-1]
    assert [peer.name for peer in blob.peers] == ["left", "right"]
    assert (blob.cid, blob.size, blob.visibility) == (str(CID), 9, None)
    assert report.peers == []


async def test_a_peer_that_holds_every_blob_holds_the_whole(known: Known, where: Where) -> None:
    everything = [*known.blobs, Digest.of(OTHER)]
    known.held_by = {digest: (holder("left"), holder("right")) for digest in everything}
    known.held_by[Digest.of(OTHER)] = (holder("right"),)
    report = await where.answer("app", now=200.0)
    assert [peer.name for peer in report.peers] == ["right"]


async def test_a_digest_alone_says_where_that_blob_is(where: Where) -> None:
    report = await where.answer(str(Digest.of(LAYER)), now=200.0)
    (blob,) = report.blobs
    assert (blob.here, blob.size, blob.role, blob.visibility) == (True, len(LAYER), None, "public")
    assert (blob.repositories, report.here) == (["docker.io/library/app"], True)


async def test_the_children_of_an_index_are_listed_once_each(known: Known, where: Where) -> None:
    child = manifest(CONFIG, LAYER)
    known.keep(child)
    root = known.keep(index(child, manifest(CONFIG, b"not pulled")))
    report = await where.answer(f"app@{root}", now=200.0)
    assert [blob.role for blob in report.blobs] == ["manifest", "manifest", "manifest", "config", "layer"]
    assert [blob.here for blob in report.blobs] == [True, True, False, True, True]


async def test_a_members_newer_word_about_a_tag_counts(known: Known, where: Where) -> None:
    digest = Digest.of(OTHER)
    known.held_by[digest] = (holder("left"),)
    known.member_tags[LATEST] = MemberTag(seen(LATEST, digest, 150.0), "left" * 8, "left")
    report = await where.answer("app", now=200.0)
    assert (report.digest, report.seen_at, report.seen_by) == (str(digest), 150.0, "left")
    assert [(blob.role, blob.here) for blob in report.blobs] == [("manifest", False)]


@pytest.mark.parametrize("asked", ["app:other", "ghcr.io/some/thing", "sha256:" + "0" * 64, "app@sha256:" + "0" * 64])
async def test_what_nobody_knows_is_not_found(where: Where, asked: str) -> None:
    with pytest.raises(NotFoundError):
        await where.answer(asked, now=200.0)


@pytest.mark.parametrize("host", ["127.0.0.1:5050", "localhost:5050"])
async def test_the_name_that_one_pulls_without_configuration_is_understood(where: Where, host: str) -> None:
    report = await where.answer(f"{host}/docker.io/library/app:latest", now=200.0)
    assert report.here is False
    assert report.digest == (await where.answer("app", now=200.0)).digest


@pytest.mark.parametrize(
    "asked", ["corp.test/app", "127.0.0.1:5000/docker.io/library/app", "registry.test:5050/library/app"]
)
async def test_a_registry_that_is_not_served_is_named(where: Where, asked: str) -> None:
    with pytest.raises(NotFoundError, match=f"registry namespace '{asked.partition('/')[0]}' is not configured here"):
        await where.answer(asked, now=200.0)


@pytest.mark.parametrize("asked", [str(CID), "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"])
async def test_a_cid_is_told_from_a_reference(where: Where, asked: str) -> None:
    with pytest.raises(InvalidError, match="a CID is no reference"):
        await where.answer(asked, now=200.0)


@pytest.mark.parametrize("asked", ["sha256:x", "UPPER", "app:-", "app@x", "a b", "../x"])
async def test_what_is_no_name_is_refused(where: Where, asked: str) -> None:
    with pytest.raises(InvalidError):
        await where.answer(asked, now=200.0)


@pytest.mark.parametrize("asked", ["127.0.0.1:5050/team/app:v1", "localhost:5050/team/app:v1"])
async def test_a_name_behind_the_facade_is_an_own_repository(where: Where, known: Known, asked: str) -> None:
    data = manifest(CONFIG, LAYER)
    digest = known.keep(data)
    known.owned.tags["team/app", "v1"] = Content(digest, len(data))
    answer = await where.answer(asked, 0.0)
    assert answer.digest == str(digest)
    assert answer.blobs[0].repositories[-1] == "team/app"


async def test_an_own_tag_that_nobody_pushed_is_not_found(where: Where) -> None:
    with pytest.raises(NotFoundError, match="no own repository"):
        await where.answer("127.0.0.1:5050/team/app:v1", 0.0)


async def test_a_tag_that_is_only_an_own_repositorys_is_told_by_the_name_it_has(known: Known, where: Where) -> None:
    content = Content(known.keep(b"own"), 3)
    known.owned.tags["team/app", "v1"] = known.owned.tags["app", "v1"] = content
    for name in ("team/app", "app"):
        with pytest.raises(NotFoundError, match=rf"or for the cluster's own: 127\.0\.0\.1:5050/{name}:v1$"):
            await where.answer(f"{name}:v1", 0.0)
