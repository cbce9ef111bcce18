"""Images that were brought as files: pulled by their names, seen whole or not at all, by those who may see them."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from facade.registry.admitting import Brought
from facade.upstream.config import UpstreamConfig
from facade.upstream.tags import TagPolicy
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.records import RESTORED
from node.reference import OWN, Repository, Tag
from node.repositories import Proof, TagSeen
from node.visibility import FOREVER, Visibility
from tests.facade.machine import Machine, machine, until
from tests.facade.members import meaning, member
from tests.fakes.images import Blob, FakeImage, FakeIndex, all_blobs, make_image, make_index
from tests.fakes.registry import FakeRegistry

MIRRORED, OURS = Repository("docker.io", "team/app"), Repository(OWN, "team/app")
STAGED = Repository(OWN, RESTORED)
IMAGE = make_image("brought", (70_000, 1000))
SEVERAL = make_index("several", (1000,))
V1 = Tag("v1")


async def bring(node: Machine, blobs: Iterable[Blob]) -> None:
    for blob in blobs:
        await node.store.put(blob.digest, blob.data, None, STAGED)


def brought(repository: Repository, image: FakeImage | FakeIndex = IMAGE, tag: Tag | None = V1) -> Brought:
    return Brought(repository, tag, image.manifest.digest, image.manifest.media_type)


async def admit(
    node: Machine,
    repository: Repository,
    image: FakeImage | FakeIndex = IMAGE,
    visibility: Visibility = Visibility.MEMBERS,
) -> None:
    await bring(node, all_blobs(image))
    await node.registry.admitting.admit(brought(repository, image), visibility)


async def assert_pulled(node: Machine, image: FakeImage, name: str = "team/app", selector: object = "v1") -> None:
    """As Podman does, by full name; for own repositories without a registry in front."""
    answer = await node.get(f"/v2/{name}/manifests/{selector}")
    assert (answer.status, answer.data) == (200, image.manifest.data)
    for blob in image.blobs:
        assert (await node.get(f"/v2/{name}/blobs/{blob.digest}")).data == blob.data


async def test_an_own_image_is_pulled_by_its_tag(node: Machine) -> None:
    await admit(node, OURS)
    await assert_pulled(node, IMAGE)


async def test_a_mirrored_image_is_pulled_by_its_tag_while_the_registry_is_gone(
    node: Machine, registry: FakeRegistry
) -> None:
    await registry.stop()
    await admit(node, MIRRORED)
    await assert_pulled(node, IMAGE, "docker.io/team/app")
    answer = await node.manifest("v1")
    assert (answer.data, answer.source) == (IMAGE.manifest.data, "local")
    assert "upstream cannot answer" in answer.headers["Warning"]


async def test_an_image_for_several_platforms_is_pulled_for_each(node: Machine, registry: FakeRegistry) -> None:
    await registry.stop()
    for repository, name in ((MIRRORED, "docker.io/team/app"), (OURS, "team/app")):
        await admit(node, repository, SEVERAL)
        assert (await node.get(f"/v2/{name}/manifests/v1")).data == SEVERAL.manifest.data
        for child in SEVERAL.images:
            await assert_pulled(node, child, name, child.manifest.digest)


async def test_what_was_brought_counts_however_long_ago_while_what_was_looked_up_does_not(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    async with machine(tmp_path / "a", registry) as node:
        await registry.stop()
        await admit(node, MIRRORED)
    months_ago = TagSeen(MIRRORED, V1, IMAGE.manifest.digest, IMAGE.manifest.media_type, 100.0, 0, lasting=True)
    for lasting, status in ((True, 200), (False, 404)):
        async with machine(tmp_path / "a", registry) as node:
            await node.store._shelf.database.write(lambda transaction: transaction.run("DELETE FROM tags"))
            await node.store.repositories.see(replace(months_ago, lasting=lasting))
            assert (await node.manifest("v1")).status == status


async def test_what_the_registry_says_counts_before_what_was_brought(node: Machine, registry: FakeRegistry) -> None:
    now = registry.push("team/app", make_image("now", (1000,)), "v1")
    await admit(node, MIRRORED)
    await assert_pulled(node, now, "docker.io/team/app")
    for blob in now.blobs:
        await node.landed(blob.digest)
    await registry.stop()
    assert (await node.manifest("v1")).data == now.manifest.data


async def test_what_is_brought_counts_instead_of_what_was_seen_before(node: Machine, registry: FakeRegistry) -> None:
    registry.push("team/app", make_image("then"), "v1")
    assert (await node.manifest("v1")).status == 200
    await registry.stop()
    await admit(node, MIRRORED)
    assert (await node.manifest("v1")).data == IMAGE.manifest.data


async def test_members_pull_what_was_brought_to_one_of_them(tmp_path: Path, registry: FakeRegistry) -> None:
    ours = make_image("ours", (1000,))
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        await registry.stop()
        await admit(a, MIRRORED)
        await admit(a, OURS, ours)
        await until(lambda: b.cluster.tag(MIRRORED, V1, 2e9) is not None)
        await assert_pulled(b, IMAGE, "docker.io/team/app")
        while await meaning(b, "v1") is None:
            await b.store.owned.news.wait()
        await assert_pulled(b, ours)


@pytest.mark.parametrize("repository", [MIRRORED, OURS])
@pytest.mark.parametrize("visibility", [Visibility.MEMBERS, Visibility.PUBLIC])
async def test_what_was_brought_is_seen_by_those_it_is_for(
    node: Machine, registry: FakeRegistry, repository: Repository, visibility: Visibility
) -> None:
    await registry.stop()
    await admit(node, repository, IMAGE, visibility)
    for blob in all_blobs(IMAGE):
        holding = await node.store.find(blob.digest)
        assert holding is not None and holding.visibility is visibility
        stranger = await node.ask(f"{node.mesh}/ipfs/{holding.cid}?format=raw")
        assert stranger.status == (200 if visibility is Visibility.PUBLIC else 404)


@pytest.mark.parametrize("repository", [MIRRORED, OURS])
@pytest.mark.parametrize("missing", [IMAGE.manifest, IMAGE.config, IMAGE.layers[1]])
async def test_an_image_that_is_not_whole_is_not_there(
    node: Machine, registry: FakeRegistry, repository: Repository, missing: Blob
) -> None:
    await registry.stop()
    await bring(node, [blob for blob in all_blobs(IMAGE) if blob != missing])
    with pytest.raises(NotFoundError, match=f"{missing.digest}.*not brought"):
        await node.registry.admitting.admit(brought(repository), Visibility.PUBLIC)
    name = "team/app" if repository == OURS else "docker.io/team/app"
    for selector in ("v1", IMAGE.manifest.digest):
        assert (await node.get(f"/v2/{name}/manifests/{selector}")).status in (404, 503)
    for blob in IMAGE.blobs:
        assert (await node.get(f"/v2/{name}/blobs/{blob.digest}")).status in (404, 503)
        holding = await node.store.find(blob.digest)
        assert holding is None or holding.visibility is Visibility.PRIVATE


async def test_a_file_that_names_what_is_hidden_here_does_not_open_it(node: Machine, registry: FakeRegistry) -> None:
    """Its bytes came here for a repository that not everybody may read: to name them is not to have them."""
    layer = IMAGE.layers[0]
    await node.store.put(layer.digest, layer.data, None, Repository("ghcr.io", "secret/app"))
    assert await node.registry.admitting.lacking({layer.digest: layer.size}) == [layer.digest]
    await bring(node, [blob for blob in all_blobs(IMAGE) if blob != layer])
    with pytest.raises(NotFoundError, match="not brought"):
        await node.registry.admitting.admit(brought(OURS), Visibility.MEMBERS)
    await bring(node, [layer])
    await node.registry.admitting.admit(brought(OURS), Visibility.MEMBERS)
    await assert_pulled(node, IMAGE)


async def test_what_was_brought_need_not_come_again(node: Machine) -> None:
    sizes = {blob.digest: blob.size for blob in all_blobs(IMAGE)}
    assert await node.registry.admitting.lacking(sizes) == list(sizes)
    await bring(node, [IMAGE.config])
    await node.store.put(IMAGE.layers[0].digest, IMAGE.layers[0].data, Proof(Visibility.PUBLIC))
    assert await node.registry.admitting.lacking(sizes) == [IMAGE.layers[1].digest, IMAGE.manifest.digest]


async def test_a_size_that_lies_of_what_is_here_is_found_before_anything_is_read(node: Machine) -> None:
    await node.store.put(IMAGE.config.digest, IMAGE.config.data, Proof(Visibility.PUBLIC))
    with pytest.raises(InvalidError, match=f"says {1 << 60} bytes, it has {IMAGE.config.size}"):
        await node.registry.admitting.lacking({IMAGE.config.digest: 1 << 60})


@pytest.mark.parametrize("repository", [MIRRORED, OURS])
async def test_what_was_here_for_a_while_only_stays_for_what_was_brought(node: Machine, repository: Repository) -> None:
    """Its proof that anybody may see it ends one day."""
    layer = IMAGE.layers[0]
    await node.store.put(layer.digest, layer.data, Proof(Visibility.PUBLIC, time.time() + 1000))
    await bring(node, [blob for blob in all_blobs(IMAGE) if blob != layer])
    await node.registry.admitting.admit(brought(repository), Visibility.MEMBERS)
    entry = await node.store._shelf.catalog.entry(layer.digest)
    assert entry is not None and entry.shown.members_until == FOREVER
    assert await node.store.repositories.confirmed(repository, layer.digest)


async def test_a_manifest_that_says_another_size_is_refused(node: Machine) -> None:
    lying = IMAGE.manifest.data.replace(b'"size":%d' % IMAGE.config.size, b'"size":%d' % (IMAGE.config.size + 1))
    manifest = Blob(IMAGE.manifest.media_type, Digest.of(lying), lying)
    await bring(node, [*IMAGE.blobs, manifest])
    with pytest.raises(InvalidError, match=f"it has {IMAGE.config.size}"):
        await node.registry.admitting.admit(Brought(OURS, V1, manifest.digest, manifest.media_type), Visibility.MEMBERS)


async def test_a_registry_that_is_not_served_here_is_refused(node: Machine) -> None:
    with pytest.raises(InvalidError, match=r"'quay\.io' is not configured here: name the image with --as"):
        await node.registry.admitting.check(brought(Repository("quay.io", "team/app")))


@pytest.mark.parametrize(
    ("rule", "reason"), [("upstream", "nothing count for this tag"), ("pinned", "it is pinned to")]
)
async def test_a_rule_that_would_not_let_it_count_refuses_it(
    tmp_path: Path, registry: FakeRegistry, rule: str, reason: str
) -> None:
    urls = UpstreamConfig.parse("docker.io", registry.url).urls
    config = UpstreamConfig("docker.io", urls, public=True, tags=(("v1", TagPolicy.parse(rule)),))
    async with machine(tmp_path / "a", registry, upstreams=(config,)) as node:
        seen = registry.push("team/app", make_image("seen", (100,)), "v1")
        assert (await node.manifest("v1")).status == 200
        await bring(node, all_blobs(IMAGE))
        with pytest.raises(InvalidError, match=reason):
            await node.registry.admitting.admit(brought(MIRRORED), Visibility.MEMBERS)
        await node.registry.admitting.check(brought(MIRRORED, tag=None))
        if rule == "pinned":
            await node.registry.admitting.check(brought(MIRRORED, seen))


async def test_under_pinned_what_was_brought_does_not_keep_the_registry_from_being_asked(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    urls = UpstreamConfig.parse("docker.io", registry.url).urls
    config = UpstreamConfig("docker.io", urls, public=True, tags=(("v1", TagPolicy.parse("pinned")),))
    async with machine(tmp_path / "a", registry, upstreams=(config,)) as node:
        await admit(node, MIRRORED)
        said = registry.push("team/app", make_image("said", (100,)), "v1")
        assert (await node.manifest("v1")).data == said.manifest.data


async def test_an_image_without_a_tag_is_pulled_by_its_digest(node: Machine, registry: FakeRegistry) -> None:
    await registry.stop()
    await bring(node, all_blobs(IMAGE))
    for repository, name in ((MIRRORED, "docker.io/team/app"), (OURS, "team/app")):
        await node.registry.admitting.admit(brought(repository, tag=None), Visibility.MEMBERS)
        await assert_pulled(node, IMAGE, name, IMAGE.manifest.digest)
        assert (await node.get(f"/v2/{name}/manifests/v1")).status in (404, 503)
