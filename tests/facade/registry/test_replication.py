"""Own repositories among members: what one writes all have, whoever was away, and whoever means ill."""

import asyncio
import json
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from node.digest import Digest
from node.reference import OWN, Repository
from node.visibility import Visibility
from tests.facade.machine import QUICK_WAITS, Machine, machine, until
from tests.facade.members import APP, EMPTY, SECRET, meaning, member, referring, settled, three, until_tag
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer
from tests.fakes.registry import FakeRegistry


@pytest.fixture
def image() -> FakeImage:
    return make_image("replicated", (400_000,))


@pytest.fixture
def other() -> FakeImage:
    return make_image("another", (1000,))


async def seen(node: Machine) -> tuple[list[str], dict[str, bytes], bytes]:
    """What clients of a node see of the repository: its tags, what each means, and what refers to the empty blob."""
    pusher = Pusher(node)
    tags = json.loads((await pusher.send("GET", "tags/list")).data)["tags"]
    meant = {tag: (await pusher.send("GET", f"manifests/{tag}")).data for tag in tags}
    return tags, meant, (await pusher.send("GET", f"referrers/{Digest.of(EMPTY)}")).data


async def test_a_deletion_is_seen_by_every_member(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        await Pusher(a).image(image, "v1")
        assert (await Pusher(a).manifest("v2", image.manifest.data)).status == 201
        await until_tag(b, "v2", image.manifest.digest)
        for _ in range(2):
            assert (await Pusher(b).send("GET", "manifests/v1")).data == image.manifest.data
        assert (await Pusher(b).send("DELETE", "manifests/v1")).status == 202
        await until_tag(a, "v1", None)
        assert (await Pusher(a).send("GET", "manifests/v1")).status == 404
        assert (await Pusher(a).send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
        await until_tag(b, "v2", None)
        for selector in ("v1", "v2", image.manifest.digest):
            assert (await Pusher(b).send("GET", f"manifests/{selector}")).status == 404
        assert (await Pusher(a).send("DELETE", f"blobs/{image.layers[0].digest}")).status == 202
        await settled(a, b)
        assert (await Pusher(b).send("GET", f"blobs/{image.layers[0].digest}")).status == 404


async def test_a_blob_is_not_deleted_where_only_another_member_has_the_manifest_that_names_it(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        await Pusher(a).image(image, "v1")
        await until_tag(b, "v1", image.manifest.digest)
        await until(lambda: b.cluster.holders(image.manifest.digest))
        answer = await Pusher(b).send("DELETE", f"blobs/{image.layers[0].digest}")
        assert (answer.status, str(image.manifest.digest).encode() in answer.data) == (405, True)
        assert (await Pusher(a).send("GET", "manifests/v1")).data == image.manifest.data


async def test_a_member_that_was_away_catches_up_and_does_not_bring_back_what_was_deleted(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, other: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a:
        async with member(tmp_path / "b", registry, a) as b:
            await Pusher(a).image(image, "gone")
            assert (await Pusher(a).manifest("moved", image.manifest.data)).status == 201
            await until_tag(b, "moved", image.manifest.digest)
            await settled(a, b)
        await Pusher(a).image(other, "moved")
        assert (await Pusher(a).send("DELETE", "manifests/gone")).status == 202
        async with member(tmp_path / "b", registry, a) as b:
            await until_tag(b, "moved", other.manifest.digest)
            await settled(a, b)
            assert await meaning(a, "gone") is await meaning(b, "gone") is None
            assert await seen(a) == await seen(b)


async def test_what_reached_a_second_node_reaches_a_third_when_the_first_is_gone(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        async with member(tmp_path / "a", registry) as a:
            b = await stack.enter_async_context(member(tmp_path / "b", registry, a))
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
            for blob in image.blobs:
                assert (await Pusher(b).send("GET", f"blobs/{blob.digest}")).data == blob.data
                await b.landed(blob.digest)
            assert (await Pusher(b).send("GET", "manifests/v1")).status == 200
        c = await stack.enter_async_context(member(tmp_path / "c", registry, b))
        await until_tag(c, "v1", image.manifest.digest)
        await until(lambda: all(c.cluster.holders(one.digest) for one in (image.manifest, *image.blobs)))
        assert (await Pusher(c).send("GET", "manifests/v1")).data == image.manifest.data
        for blob in image.blobs:
            assert (await Pusher(c).send("GET", f"blobs/{blob.digest}")).data == blob.data


async def test_a_manifest_whose_only_holder_is_away_is_an_outage(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        async with member(tmp_path / "a", registry) as a:
            b = await stack.enter_async_context(member(tmp_path / "b", registry, a))
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
        await until(lambda: not b.cluster.holders(image.manifest.digest))
        assert (await Pusher(b).send("GET", "manifests/v1")).status == 503
        assert (await Pusher(b).send("GET", f"blobs/{image.layers[0].digest}")).status == 503
        assert json.loads((await Pusher(b).send("GET", "tags/list")).data)["tags"] == ["v1"]


async def test_after_a_partition_tags_digests_and_referrers_are_the_same_on_every_node(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, other: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a, b, c = await three(stack, tmp_path, registry)
        await Pusher(a).image(image, "base")
        await Pusher(a).blob(EMPTY)
        await until_tag(b, "base", image.manifest.digest)
        await settled(a, b, c)
    for name, mine in zip("abc", (image, other, image), strict=True):
        async with member(tmp_path / name, registry) as alone:  # each goes its own way
            pusher = Pusher(alone)
            for data in (EMPTY, *(blob.data for blob in mine.blobs)):
                await pusher.blob(data)
            assert (await pusher.manifest("same", mine.manifest.data)).status == 201
            assert (await pusher.manifest(f"of-{name}", mine.manifest.data)).status == 201
            data = referring(Digest.of(EMPTY), name)
            assert (await pusher.manifest(Digest.of(data), data)).status == 201
            if name == "b":
                assert (await pusher.send("DELETE", "manifests/base")).status == 202
    async with AsyncExitStack() as stack:
        a, b, c = await three(stack, tmp_path, registry)
        await settled(a, b, c)
        assert await meaning(c, "same") == image.manifest.digest  # written last
        async with asyncio.timeout(10):
            while not (await seen(a) == await seen(b) == await seen(c)):
                await asyncio.sleep(0.05)  # the referrers' annotations come from whoever has their bytes
        tags, _, found = await seen(a)
        assert tags == ["of-a", "of-b", "of-c", "same"]
        assert len(json.loads(found)["manifests"]) == 3


async def test_a_node_that_lost_its_catalog_gets_own_repositories_back_from_another(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a:
        async with member(tmp_path / "b", registry, a) as b:
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
            await settled(a, b)
        for path in (tmp_path / "b").glob("catalog.db*"):
            path.unlink()
        async with member(tmp_path / "b", registry, a) as b:
            await until_tag(b, "v1", image.manifest.digest)
            await settled(a, b)


async def test_after_201_a_kill_loses_nothing(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a:
        await Pusher(a).image(image, "v1")
        where = await Pusher(a).begin()
        assert (await Pusher(a).send("PATCH", where, b"begun")).status == 202
        copying = asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "killed")
        await copying  # what a kill would leave now
    async with member(tmp_path / "killed", registry) as again:
        assert (await Pusher(again).send("GET", "manifests/v1")).data == image.manifest.data
        for blob in image.blobs:
            assert (await Pusher(again).send("GET", f"blobs/{blob.digest}")).data == blob.data
        assert (await Pusher(again).send("GET", where)).headers["Range"] == "0-4"


async def test_many_clients_push_and_pull_at_once(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        images = [make_image(f"many/{number % 4}", (900_000, 1000)) for number in range(16)]  # four of each

        async def one(number: int, mine: FakeImage) -> None:
            at, elsewhere = (a, b) if number % 2 else (b, a)
            await Pusher(at).image(mine, f"t{number}")
            await until_tag(elsewhere, f"t{number}", mine.manifest.digest, 30)
            for blob in (mine.manifest, *mine.blobs):
                kind = "manifests" if blob is mine.manifest else "blobs"
                got = await Pusher(elsewhere).send("GET", f"{kind}/{blob.digest}")
                assert (got.status, got.data) == (200, blob.data)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number, mine in enumerate(images):
                group.create_task(one(number, mine))
        assert len(json.loads((await Pusher(a).send("GET", "tags/list")).data)["tags"]) == 16
        for node in (a, b):
            assert not any((node.store.folder / "uploads").iterdir())
            assert await node.store.owned.conflicts() == ()


async def test_two_who_want_the_same_blob_to_stay_bring_it_once(beside: tuple[Machine, FakePeer]) -> None:
    node, peer = beside
    data = bytes(50_000)
    peer.hold(data, visibility="members")
    await until(lambda: node.cluster.holders(Digest.of(data)))
    bringing = node.registry.bringing
    async with asyncio.timeout(10):
        await asyncio.gather(*(bringing.bring(Repository(OWN, name), [Digest.of(data)]) for name in (APP, "team/b")))
    assert peer.bodies == 1
    assert await node.store.load(Digest.of(data)) == data


async def test_what_is_here_for_a_mirrored_repository_is_kept_for_the_own_one_that_a_push_names_it_in(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    """A push rests on no other member's disk: not either once it is proved no more that anybody may read the bytes."""
    registry.push("library/app", image, "v1")
    waits = replace(QUICK_WAITS, proof_s=4.0)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(member(tmp_path / "a", registry))
        async with machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,), waits=waits) as b:
            assert (await b.manifest("v1", "library/app")).status == 200
            for blob in image.blobs:
                assert (await b.blob(blob.digest, "library/app")).data == blob.data
                await b.landed(blob.digest)
            await Pusher(a, APP).image(image, "v1")
            await until(lambda: b.store.owned.generation >= len(image.blobs) and b.cluster.peers())
            async with asyncio.timeout(10):
                while await b.store.owned.manifest(APP, image.manifest.digest) is None:
                    await asyncio.sleep(0.01)
            answer = await Pusher(b, APP).manifest("v2", image.manifest.data, image.manifest.media_type)
            assert answer.status == 201
            await stack.aclose()
            async with asyncio.timeout(10):
                for blob in image.blobs:
                    while (holding := await b.store.find(blob.digest)) and holding.visibility is Visibility.PUBLIC:
                        await asyncio.sleep(0.05)
            for blob in image.blobs:
                assert (await b.get(f"/v2/{APP}/blobs/{blob.digest}")).data == blob.data
