"""A node with IPFS gateways: they come before upstream, are asked for public content alone, and cost a pull nothing."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.facade.machine import Machine, machine, until
from tests.facade.members import SECRET
from tests.fakes.gateway import FakeGateway, fake_gateway
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry
from tests.kubo.daemon import Kubo

MIB = 1024 * 1024


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("gateways", (5 * MIB,)), "v1")


@asynccontextmanager
async def beside(
    folder: Path, registry: FakeRegistry, gateway: FakeGateway, *blobs: Blob, public: bool = True
) -> AsyncIterator[Machine]:
    """A node that asks a gateway which holds these blobs."""
    for blob in blobs:
        gateway.hold(blob.data)
    async with (
        fake_gateway(gateway),
        machine(folder, registry, public=public, gateways=(gateway.url,)) as node,
    ):
        yield node


async def pulled(node: Machine, image: FakeImage) -> dict[str, str]:
    """Pull by tag; the source of each blob."""
    assert (await node.manifest("v1")).data == image.manifest.data
    sources = {}
    for blob in image.blobs:
        answer = await node.blob(blob.digest)
        assert answer.data == blob.data
        sources[str(blob.digest)] = answer.source
    return sources


async def test_a_small_blob_is_named_by_its_digest_and_comes_from_a_gateway(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    gateway = FakeGateway()
    async with beside(tmp_path / "n", registry, gateway, image.config) as node:
        sources = await pulled(node, image)
        assert sources[str(image.config.digest)] == "ipfs"
        assert not registry.asked("blobs", "GET", image.config.digest)
        assert node.metrics.fetched_bytes["ipfs"] == image.config.size


async def test_a_blob_that_was_here_once_comes_from_a_gateway_by_the_mapping_that_is_left(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    (layer,) = image.layers
    gateway = FakeGateway()
    async with beside(tmp_path / "n", registry, gateway, layer) as node:
        assert (await pulled(node, image))[str(layer.digest)] == "upstream"
        await node.landed(layer.digest)
        await node.store.drop(layer.digest)
        registry.requests.clear()
        answer = await node.blob(layer.digest)
        assert (answer.data, answer.source) == (layer.data, "ipfs")
        assert not registry.asked("blobs", "GET")


async def test_what_a_member_named_comes_from_a_gateway_when_the_member_is_gone(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    (layer,) = image.layers
    gateway = FakeGateway()
    gateway.hold(layer.data)
    peer = FakePeer(secret=SECRET)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fake_gateway(gateway))
        await stack.enter_async_context(fake_peer(peer))
        peer.hold(layer.data)
        node = await stack.enter_async_context(
            machine(tmp_path / "n", registry, secret=SECRET, joins=(str(peer.url),), gateways=(gateway.url,))
        )
        await until(lambda: node.cluster.holders(layer.digest))
        await peer.leave()
        await until(lambda: not node.cluster.holders(layer.digest))
        assert (await pulled(node, image))[str(layer.digest)] == "ipfs"


async def test_what_no_gateway_has_comes_from_upstream(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    gateway = FakeGateway()
    async with beside(tmp_path / "n", registry, gateway) as node:
        assert set((await pulled(node, image)).values()) == {"upstream"}
        assert {method for method, _ in gateway.asked} == {"HEAD"}


@pytest.mark.parametrize(
    "gateway",
    [FakeGateway(lies=True), FakeGateway(stalls=True), FakeGateway(html=True), FakeGateway(silent=True)],
    ids=["lies", "stalls", "html", "silent"],
)
async def test_a_gateway_that_misbehaves_costs_no_pull_its_success(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, gateway: FakeGateway
) -> None:
    async with beside(tmp_path / "n", registry, gateway, *image.blobs) as node:
        assert set((await pulled(node, image)).values()) <= {"upstream"}


@pytest.mark.parametrize("after", [0, 3], ids=["from the first byte on", "behind some leaves"])
async def test_however_many_gateways_are_too_slow_a_pull_waits_for_them_once(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr("facade.gateways.FIRST_S", 0.5)
    monkeypatch.setattr("facade.gateways.NEXT_S", 0.5)
    (layer,) = image.layers
    slow = [FakeGateway(trickles_after=after) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for each in slow:
            each.hold(layer.data)
            await stack.enter_async_context(fake_gateway(each))
        urls = tuple(each.url for each in slow)
        node = await stack.enter_async_context(machine(tmp_path / "n", registry, gateways=urls))
        await pulled(node, image)
        await node.landed(layer.digest)
        await node.store.drop(layer.digest)
        began = asyncio.get_running_loop().time()
        answer = await node.blob(layer.digest)
        assert (answer.data, answer.cut) == (layer.data, False)
        assert asyncio.get_running_loop().time() - began < 3 * 4.0  # each would have had so long for a block
        assert any(method == "GET" for each in slow for method, _ in each.asked)


async def test_private_content_is_never_asked_for(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    (layer,) = image.layers
    gateway = FakeGateway()
    async with beside(tmp_path / "n", registry, gateway, *image.blobs, public=False) as node:
        await pulled(node, image)
        for blob in image.blobs:
            await node.landed(blob.digest)
            await node.store.drop(blob.digest)
        assert (await node.blob(layer.digest)).source == "upstream"
        assert gateway.asked == []


async def test_another_node_is_a_gateway_without_being_a_peer(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry))
        await pulled(a, image)
        await a.landed(image.config.digest)
        b = await stack.enter_async_context(machine(tmp_path / "b", registry, gateways=(URL(a.mesh),)))
        assert (await pulled(b, image))[str(image.config.digest)] == "ipfs"
        assert not b.cluster.peers()


async def test_the_gateway_of_a_real_kubo_gives_what_was_published_there(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: Kubo
) -> None:
    (layer,) = image.layers
    profile = {"cid-version": "1", "raw-leaves": "true", "chunker": "size-1048576", "max-file-links": "1024"}
    async with machine(tmp_path / "n", registry, gateways=(kubo.gateway,)) as node:
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(layer.data), filename="blob")
        async with node.session.post((kubo.rpc / "api/v0/add").with_query(profile), data=form) as answer:
            assert answer.status == 200
        assert (await pulled(node, image))[str(layer.digest)] == "upstream"
        await node.landed(layer.digest)
        await node.store.drop(layer.digest)
        answer_again = await node.blob(layer.digest)
        assert (answer_again.data, answer_again.source) == (layer.data, "ipfs")
