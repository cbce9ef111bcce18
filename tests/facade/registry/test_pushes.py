"""Own repositories: what is pushed is pulled, from the node it was pushed to and from the other members."""

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from node.digest import Digest
from node.manifest import MAX_MANIFEST_BYTES, OCI_INDEX
from node.records import Content, Kind, Record, stamp_at
from node.reference import Tag
from tests.facade.machine import Machine, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
SECRET = b"a secret of the whole cluster"


@pytest.fixture
def image() -> FakeImage:
    return make_image("pushed", (3 * MIB, 300_000))


async def _pull(node: Machine, image: FakeImage, tag: str, name: str = "team/app") -> set[str]:
    """Pull an image from an own repository; where its blobs came from."""
    answer = await node.get(f"/v2/{name}/manifests/{tag}")
    assert (answer.status, answer.data) == (200, image.manifest.data)
    assert answer.headers["Docker-Content-Digest"] == str(image.manifest.digest)
    sources = set()
    for blob in image.blobs:
        got = await node.get(f"/v2/{name}/blobs/{blob.digest}")
        assert (got.status, got.data) == (200, blob.data)
        sources.add(got.source)
    return sources


async def _known(node: Machine, tag: str, name: str = "team/app", limit_s: float = 10.0) -> None:
    """Wait until a tag that was pushed elsewhere means something here."""
    async with asyncio.timeout(limit_s):
        while await node.store.owned.tag(name, Tag(tag)) is None:
            await node.store.owned.news.wait()


async def test_what_is_pushed_is_pulled_by_tag_and_digest(node: Machine, image: FakeImage) -> None:
    await Pusher(node).image(image, "v1")
    assert await _pull(node, image, "v1") == {"local"}
    assert await _pull(node, image, str(image.manifest.digest)) == {"local"}


async def test_a_tag_that_moves_is_seen_at_once_though_the_old_answer_was_warm(node: Machine, image: FakeImage) -> None:
    pusher, other = Pusher(node), make_image("other", (1000,))
    await pusher.image(image, "latest")
    for _ in range(2):
        await _pull(node, image, "latest")
    await pusher.image(other, "latest")
    await _pull(node, other, "latest")


async def test_another_member_serves_what_was_pushed_here(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,)))
        await Pusher(a).image(image, "v1")
        await _known(b, "v1")
        assert "peer" in await _pull(b, image, "v1")
        sources = {source for source, size in b.metrics.fetched_bytes.items() if size}
        assert sources == {"peer"}  # those that are local by now were fetched ahead
        assert json.loads((await b.get("/v2/team/app/tags/list")).data) == {"name": "team/app", "tags": ["v1"]}


async def test_a_blob_whose_only_holder_is_away_is_an_outage_and_not_unknown(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,)))
        blob = await Pusher(a).blob(b"only there")
        async with asyncio.timeout(10):
            while await b.store.owned.blob("team/app", blob) is None:
                await b.store.owned.news.wait()
        await a.store.drop(blob)
        answer = await b.get(f"/v2/team/app/blobs/{blob}")
        assert answer.status == 503 and b"members that have it are away" in answer.data, answer


async def test_an_index_of_blobs_as_buildkit_keeps_its_cache_is_pushed_and_pulled_through_another_member(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,)))
        layer = await Pusher(a).blob(b"a layer")
        entry = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": str(layer), "size": 7}
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        assert (await Pusher(a).manifest("cache", index, OCI_INDEX)).status == 201
        await _known(b, "cache")
        answer = await b.get("/v2/team/app/manifests/cache")
        assert (answer.status, answer.data) == (200, index)
        assert (await b.get(f"/v2/team/app/blobs/{layer}")).data == b"a layer"


async def test_a_stranger_learns_nothing_of_own_repositories(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry))
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, joins=(a.mesh,)))
        await Pusher(a).image(image, "v1")
        public = registry.push("team/public", make_image("public", (1000,)), "v1")
        assert (await a.manifest("v1", name="team/public")).status == 200
        await until(lambda: b.cluster.holders(public.manifest.digest))  # its log was read as far as that
        assert not any(b.cluster.holders(one.digest) for one in (image.manifest, *image.blobs))
        assert (await b.get("/v2/team/app/manifests/v1")).status == 404


@pytest.mark.parametrize("path", ["docker.io/team/app", "team/app"])
async def test_nothing_is_pushed_to_what_is_mirrored(node: Machine, path: str) -> None:
    query = "?ns=docker.io" if path == "team/app" else ""
    answer = await node.ask(f"{node.facade}/v2/{path}/blobs/uploads/{query}", "POST")
    assert answer.status == 405 and b"UNSUPPORTED" in answer.data
    answer = await node.ask(f"{node.docker}/v2/{path}/blobs/uploads/", "POST")
    assert answer.status == 405


async def test_a_manifest_whose_blobs_were_not_pushed_is_refused(node: Machine, image: FakeImage) -> None:
    answer = await Pusher(node).manifest("v1", image.manifest.data, image.manifest.media_type)
    assert answer.status == 404 and b"MANIFEST_BLOB_UNKNOWN" in answer.data
    assert (await node.get("/v2/team/app/manifests/v1")).status == 404


async def test_a_manifest_that_is_too_large_is_refused(node: Machine) -> None:
    answer = await Pusher(node).manifest("v1", bytes(MAX_MANIFEST_BYTES + 1))
    assert answer.status == 413 and b"SIZE_INVALID" in answer.data


async def test_what_another_member_has_is_brought_before_a_manifest_counts_as_pushed(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    """A client that finds a blob there does not push it; still a 201 means that this node has all of the image."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,)))
        await Pusher(a).image(image, "v1")
        await _known(b, "v1")
        for blob in image.blobs:
            assert (await b.get(f"/v2/team/app/blobs/{blob.digest}", "HEAD")).status == 200
        assert (await Pusher(b).manifest("v2", image.manifest.data, image.manifest.media_type)).status == 201
        for blob in image.blobs:
            assert await b.store.find(blob.digest) is not None


async def test_a_blob_whose_holders_are_away_is_to_be_pushed_again(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with machine(tmp_path / "b", registry, secret=SECRET) as b:
        async with machine(tmp_path / "a", registry, secret=SECRET, joins=(b.mesh,)) as a:
            await Pusher(a).image(image, "v1")
            await _known(b, "v1")
        await until(lambda: not b.cluster.holders(image.layers[0].digest))
        assert (await b.get(f"/v2/team/app/blobs/{image.layers[0].digest}", "HEAD")).status == 404
        answer = await Pusher(b).manifest("v2", image.manifest.data, image.manifest.media_type)
        assert answer.status == 404 and b"MANIFEST_BLOB_UNKNOWN" in answer.data
        await Pusher(b).image(image, "v2")
        assert await _pull(b, image, "v2") == {"local"}


async def test_what_nobody_holds_is_not_mounted(node: Machine) -> None:
    digest = Digest.of(b"what only a member had that is gone")
    record = Record("src/app", Kind.BLOB, str(digest), Content(digest, 35), stamp_at(time.time()), "f" * 32)
    await node.store.owned.merge([record])
    answer = await Pusher(node).send("POST", f"blobs/uploads/?mount={digest}&from=src/app")
    assert answer.status == 202


async def test_a_file_that_rotted_is_mended_by_pushing_it_again(node: Machine) -> None:
    data = b"as it should be" * 1000
    digest = await Pusher(node).blob(data)
    path = node.store.folder / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await Pusher(node).blob(data)
    assert (await node.get(f"/v2/team/app/blobs/{digest}")).data == data
