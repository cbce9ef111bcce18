"""A store damaged behind the node's back, and a disk without room: pulls stay right."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.digest import Digest
from tests.facade.machine import Machine, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("damage", (6 * MIB, 300_000)), "v1")


def _path(node: Machine, blob: Blob) -> Path:
    return node.store.folder / "blobs" / "sha256" / blob.digest.hex[:2] / blob.digest.hex


async def _pulled(node: Machine, image: FakeImage) -> None:
    assert (await node.manifest("v1")).status == 200
    for blob in image.blobs:
        await node.blob(blob.digest)
        await node.landed(blob.digest)


@pytest.mark.parametrize("how", ["flipped", "truncated", "deleted"])
async def test_a_damaged_blob_is_found_when_used_and_heals_from_upstream(
    node: Machine, registry: FakeRegistry, image: FakeImage, how: str
) -> None:
    await _pulled(node, image)
    layer = image.layers[0]
    path = _path(node, layer)
    path.chmod(0o644)
    if how == "flipped":
        path.write_bytes(bytes([layer.data[0] ^ 1]) + layer.data[1:])
    elif how == "truncated":
        os.truncate(path, MIB)
    else:
        path.unlink()
    answer = await node.blob(layer.digest)
    assert (answer.data, answer.source) == (layer.data, "upstream")
    await node.landed(layer.digest)
    assert (await node.blob(layer.digest)).source == "local"


async def test_a_blob_that_rotted_unseen_costs_one_pull_and_not_the_next(node: Machine, image: FakeImage) -> None:
    await _pulled(node, image)
    layer = image.layers[0]
    path = _path(node, layer)
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(bytes([layer.data[0] ^ 1]))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    first = await node.blob(layer.digest)
    assert first.source == "local" and first.data != layer.data
    second = await node.blob(layer.digest)
    assert (second.data, second.source) == (layer.data, "upstream")


async def test_a_damaged_manifest_heals_from_upstream(node: Machine, image: FakeImage) -> None:
    await _pulled(node, image)
    assert (await node.manifest(image.manifest.digest)).source == "local"
    path = _path(node, image.manifest)
    path.chmod(0o644)
    path.write_bytes(b"{" + image.manifest.data)
    assert (await node.manifest("v1")).data == image.manifest.data


async def test_a_lost_catalog_costs_no_pull(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with machine(tmp_path / "a", registry) as node:
        await _pulled(node, image)
        folder = node.store.folder
    for path in folder.glob("catalog.db*"):
        path.unlink()
    async with machine(tmp_path / "a", registry) as node:
        assert (await node.manifest("v1")).data == image.manifest.data
        for blob in image.blobs:
            assert (await node.blob(blob.digest)).data == blob.data


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a filesystem of its own can only be mounted by root: sudo make test")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_passes_pulls_through(small_disk: Path, registry: FakeRegistry) -> None:
    image = registry.push("team/app", make_image("full", (12 * MIB, 300_000)), "v1")
    async with machine(small_disk, registry) as node:
        assert (await node.manifest("v1")).status == 200
        for _ in range(2):
            answer = await node.blob(image.layers[0].digest)
            assert (answer.data, answer.cut) == (image.layers[0].data, False)
        part = await node.blob(image.layers[0].digest, Range="bytes=5-9")
        assert (part.status, part.data) == (206, image.layers[0].data[5:10])
        assert (await node.blob(image.layers[1].digest)).data == image.layers[1].data


async def test_a_push_onto_a_full_disk_is_refused_and_leaves_room(small_disk: Path, registry: FakeRegistry) -> None:
    image, data = make_image("fits", (1_000_000,)), bytes(16 * MIB)
    async with machine(small_disk, registry) as node:
        pusher = Pusher(node)
        for _ in range(3):
            where = await pusher.begin()
            for method, path in (("PATCH", where), ("POST", f"blobs/uploads/?digest={Digest.of(data)}")):
                assert (await pusher.send(method, path, data)).status == 507
            assert (await pusher.send("GET", where)).status == 404
        assert not any((node.store.folder / "uploads").iterdir())
        await pusher.image(image, "v1")
        assert (await pusher.send("GET", f"blobs/{image.layers[0].digest}")).data == image.layers[0].data


async def test_a_disk_that_was_full_from_the_start_passes_pulls_through(
    small_disk: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with machine(small_disk, registry) as node:
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(64 * 1024))
                file.flush()
        assert (await node.manifest("v1")).data == image.manifest.data
        for blob in image.blobs:
            answer = await node.blob(blob.digest)
            assert (answer.data, answer.cut) == (blob.data, False)
        ballast.unlink()
        await _pulled(node, image)


async def test_an_own_blob_that_finds_no_room_here_is_an_outage_and_not_unknown(
    small_disk: Path, tmp_path: Path, registry: FakeRegistry
) -> None:
    image = make_image("own", (30 * MIB,))
    secret = b"a secret of the whole cluster"
    async with (
        machine(tmp_path / "a", registry, secret=secret) as a,
        machine(small_disk, registry, secret=secret, joins=(a.mesh,)) as b,
    ):
        await Pusher(a).image(image, "v1")
        async with asyncio.timeout(10):
            while await b.store.owned.blob("team/app", image.layers[0].digest) is None:
                await b.store.owned.news.wait()
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        answer = await b.get(f"/v2/team/app/blobs/{image.layers[0].digest}")
        assert answer.cut or answer.status == 503
