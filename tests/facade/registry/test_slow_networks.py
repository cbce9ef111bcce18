"""IPFS networks that are slow behind their first leaves: upstream goes on, unless it is away, or slower still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from facade.admin.status import ipfs_warnings
from facade.settings import Waits
from facade.upstream.wire import Limits
from node.reference import Repository
from node.source import Wanted
from tests.facade.machine import QUICK_LIMITS, QUICK_WAITS, Machine, Pulled, machine, until
from tests.facade.registry.test_kubo import alone
from tests.fakes.faults import Fault
from tests.fakes.gateway import FakeGateway, fake_gateway
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.peer import FakePeer, dag_of, fake_peer
from tests.fakes.peer import Faults as PeerFaults
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
REPOSITORY = Repository("docker.io", "team/app")
MOST_S = 3.0
"""What a failing source may cost a pull."""
WAITS = replace(QUICK_WAITS, pace_s=0.6)
ENOUGH = replace(QUICK_WAITS, pace_s=1.4)
"""So long it takes to see that something comes at 0.8 MB/s, in leaves of 1 MiB."""
PATIENT = replace(QUICK_LIMITS, aside_s=30.0)


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("slow", (3 * MIB, 3 * MIB + 1)), "v1")


@pytest.fixture
async def kubo() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


async def had(node: Machine, image: FakeImage) -> None:
    """Have every blob, and drop it again, so that the node knows its CID."""
    assert (await node.manifest("v1")).status == 200
    for blob in image.layers:
        assert (await node.blob(blob.digest)).status == 200
        await node.landed(blob.digest)
    for blob in image.layers:
        await node.store.drop(blob.digest)


@asynccontextmanager
async def beside_kubo(
    folder: Path,
    registry: FakeRegistry,
    kubo: FakeKubo,
    image: FakeImage,
    limits: Limits = QUICK_LIMITS,
    waits: Waits = WAITS,
) -> AsyncIterator[Machine]:
    """A node that lacks the layers, which its Kubo has."""
    async with machine(folder, registry, kubo=kubo, waits=waits, limits=limits) as node:
        await until(lambda: node.kubo.kubo.usable)
        await had(node, image)
        for blob in image.layers:
            kubo.keep(blob.data)
        kubo.asked.clear()
        registry.requests.clear()
        yield node


@dataclass
class Timed:
    """An answer, and how long it took."""

    answer: Pulled
    seconds: float


async def timed(node: Machine, blob: Blob) -> Timed:
    began = asyncio.get_running_loop().time()
    answer = await node.blob(blob.digest)
    is_right = answer.data == blob.data and not answer.cut
    assert is_right, f"{answer.status}, {len(answer.data)} bytes"
    return Timed(answer, asyncio.get_running_loop().time() - began)


def read(kubo: FakeKubo, blob: Blob) -> int:
    """How often a blob was begun to be read from it: each time its root, and then the file."""
    return kubo.asked.count(f"/ipfs/{dag_of(blob.data).root}") // 2


async def test_an_own_kubo_that_slows_down_is_left_and_costs_one_pull_a_moment(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with beside_kubo(tmp_path / "n", registry, kubo, image) as node:
        kubo.faults.slow_behind = (2 * MIB, 100_000.0)
        first = await timed(node, image.layers[0])
        assert first.answer.source == "ipfs" and first.seconds < MOST_S
        assert registry.asked("blobs", "GET", image.layers[0].digest)[-1].headers["Range"] == f"bytes={2 * MIB}-"
        assert (await timed(node, image.layers[1])).answer.source == "upstream"
        assert not read(kubo, image.layers[1])
        (warning,) = ipfs_warnings(node.kubo)
        assert "too slowly: for a minute others are asked before it" in warning


async def test_a_swarm_that_slows_down_is_left_and_so_are_the_others_of_who_named_it(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with alone(tmp_path / "n", registry, kubo, image, WAITS) as (node, theirs):
        for blob in image.layers:
            theirs.keep(blob.data)
        kubo.faults.slow_behind = (MIB, 100_000.0)
        first = await timed(node, image.layers[0])
        assert first.answer.source == "ipfs" and first.seconds < MOST_S
        assert (await timed(node, image.layers[1])).answer.source == "upstream"
        (offer,) = await node.kubo.source.offers(Wanted(REPOSITORY, image.layers[0].digest))
        assert offer.late and offer.file and not offer.file.here  # the root is, but that says nothing


async def test_what_is_slow_is_followed_while_upstream_is_away(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with beside_kubo(tmp_path / "n", registry, kubo, image, PATIENT) as node:
        kubo.faults.slow_behind = (MIB, 1_500_000.0)
        await registry.stop()
        assert (await node.manifest("v2")).status == 404  # and now its breaker is open
        assert (await timed(node, image.layers[0])).answer.source == "ipfs"
        assert read(kubo, image.layers[0]) == 1


async def test_where_upstream_fails_what_was_slow_goes_on(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with beside_kubo(tmp_path / "n", registry, kubo, image) as node:
        kubo.faults.slow_behind = (MIB, 1_500_000.0)
        registry.fault("blobs", "*", Fault(status=503))
        assert (await timed(node, image.layers[0])).answer.source == "ipfs"
        assert registry.asked("blobs") and read(kubo, image.layers[0]) == 2


async def test_where_upstream_is_slower_still_what_was_slow_goes_on(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with beside_kubo(tmp_path / "n", registry, kubo, image, waits=ENOUGH) as node:
        kubo.faults.slow_behind = (MIB, 800_000.0)
        registry.fault("blobs", "*", Fault(drip=(1000, 0.05)))
        assert (await timed(node, image.layers[0])).seconds < 20  # upstream would take minutes
        assert registry.asked("blobs") and read(kubo, image.layers[0]) == 2


async def test_where_what_was_slow_ends_as_well_the_slower_upstream_has_the_last_word(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with beside_kubo(tmp_path / "n", registry, kubo, image, waits=ENOUGH) as node:
        kubo.faults.slow_behind = (MIB, 800_000.0)
        registry.fault("blobs", "*", Fault(drip=(1000, 0.05), times=1))
        del kubo.blocks[dag_of(image.layers[0].data).leaf(2).cid]
        await timed(node, image.layers[0])
        assert len(registry.asked("blobs", "GET")) == 2


async def test_gateways_that_slow_down_are_left_and_set_aside_until_upstream_fails(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    gateway = FakeGateway()
    for blob in image.layers:
        gateway.hold(blob.data)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fake_gateway(gateway))
        node = await stack.enter_async_context(
            machine(tmp_path / "n", registry, gateways=(gateway.url,), waits=WAITS, limits=PATIENT)
        )
        await had(node, image)
        gateway.asked.clear()
        gateway.slow_behind = (3, 100_000.0)
        first = await timed(node, image.layers[0])
        assert first.answer.source == "ipfs" and first.seconds < MOST_S
        asked = len(gateway.asked)
        assert (await timed(node, image.layers[1])).answer.source == "upstream"
        assert len(gateway.asked) == asked
        gateway.slow_behind = None
        await node.landed(image.layers[1].digest)
        await node.store.drop(image.layers[1].digest)
        registry.fault("blobs", "*", Fault(status=503))
        assert (await timed(node, image.layers[1])).answer.source == "ipfs"


async def test_a_kubo_is_not_blamed_where_a_strangers_mapping_could_not_be_verified_in_time(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo
) -> None:
    blob = registry.push("team/app", make_image("large", (48 * MIB,)), "v1").layers[0]
    async with (
        fake_peer(FakePeer()) as peer,
        machine(tmp_path, registry, kubo=kubo, joins=(str(peer.url),), waits=QUICK_WAITS) as node,
    ):
        peer.hold(blob.data)
        kubo.keep(blob.data)
        kubo.faults.slow_behind = (MIB, 4_000_000.0)
        await until(lambda: node.cluster.holders(blob.digest) and node.kubo is not None and node.kubo.kubo.usable)
        await peer.leave()
        await until(lambda: not node.cluster.holders(blob.digest))
        assert (await node.manifest("v1")).status == 200
        answer = await node.blob(blob.digest)
        assert (answer.data == blob.data, answer.source) == (True, "upstream")
        assert ipfs_warnings(node.kubo) == []


async def test_no_byte_of_a_stranger_is_shown_while_upstream_is_only_slow(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo
) -> None:
    image = registry.push("team/app", make_image("slow", (8 * MIB,)), "v1")
    blob = image.layers[0]
    async with (
        fake_peer(FakePeer(faults=PeerFaults(trickle_s=0.02))) as peer,
        machine(tmp_path, registry, kubo=kubo, joins=(str(peer.url),), waits=ENOUGH) as node,
    ):
        await until(lambda: node.kubo is not None and node.kubo.kubo.usable)
        await had(node, image)
        peer.hold(bytes(len(blob.data)), digest=blob.digest)
        await until(lambda: node.cluster.holders(blob.digest))
        kubo.keep(blob.data)
        kubo.faults.slow_behind = (MIB, 800_000.0)
        registry.requests.clear()
        registry.fault("blobs", "*", Fault(drip=(10_000, 0.05)))
        pulling = asyncio.create_task(node.blob(blob.digest))
        await until(lambda: bool(registry.asked("blobs", "GET")))
        peer.faults.trickle_s = None
        answer = await pulling
        assert (answer.data == blob.data, answer.cut) == (True, False)
