"""Fetching one blob from peers that stall, lie, cut, refuse, or behave; over plain connections, and over TLS."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
import pytest

from cluster.config import Limits, Timings
from cluster.swarm.leaves import WrongMappingError
from cluster.swarm.swarm import Faults as Reports
from cluster.swarm.swarm import Source, Swarm
from cluster.tls import Certificate, Pin, make_certificate
from node.digest import Digest
from node.errors import FullError, LayermeshError, NotFoundError, UnreachableError
from node.ipfs.gateway import GatewayClient
from node.unixfs import LEAF_BYTES
from tests.cluster.memory import MemorySink
from tests.fakes.peer import FakePeer, Faults, dag_of, fake_peer

TIMINGS = Timings(stall_s=1.0, leaf_s=2.0, hedge_s=0.3)
DATA = random.Random(5).randbytes(20 * LEAF_BYTES + 12_345)
SMALL = DATA[:70_000]


@dataclass
class Seen:
    """What the swarm reported of its sources."""

    failed: list[str] = field(default_factory=list)
    lied: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)

    def reports(self) -> Reports:
        def received(source: Source, size: int) -> None:
            self.received[source.peer_id] = self.received.get(source.peer_id, 0) + size

        return Reports(
            failed=lambda source, why: self.failed.append(source.peer_id),
            lied=lambda source, why: self.lied.append(source.peer_id),
            lacks=lambda source: self.lacks.append(source.peer_id),
            received=received,
        )


class Scene:
    """Peers, and a swarm that fetches from them."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession, tls: Certificate | None) -> None:
        self.tls = tls
        self.stack = stack
        self.session = session
        self.seen = Seen()
        self.peers: list[FakePeer] = []

    async def peer(self, data: bytes | None = DATA, **faults: object) -> FakePeer:
        known = Faults(**faults)  # type: ignore[arg-type]
        peer = FakePeer(id=f"{len(self.peers):032x}", certificate=self.tls, faults=known)
        await self.stack.enter_async_context(fake_peer(peer))
        if data is not None:
            peer.hold(data)
        self.peers.append(peer)
        return peer

    async def fetch(self, sink: MemorySink, data: bytes = DATA, size: int | None = None) -> None:
        swarm = Swarm(GatewayClient(self.session), TIMINGS, Limits(), self.seen.reports())
        digest = Digest.of(data)
        pin = Pin(self.tls.fingerprint) if self.tls else None
        sources: Sequence[Source] = [Source(p.id, p.url, lambda target: {}, digest, pin) for p in self.peers]
        async with asyncio.timeout(20):
            await swarm.fetch(dag_of(data).root, len(data) if size is None else size, sources, sink)


@pytest.fixture(params=["plain", "tls"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    certificate = await asyncio.to_thread(make_certificate) if request.param == "tls" else None
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield Scene(stack, session, certificate)


@pytest.mark.parametrize("takes_leaves", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_blob_comes_from_as_many_peers_as_there_are(scene: Scene, count: int, takes_leaves: bool) -> None:
    for _ in range(count):
        await scene.peer()
    sink = MemorySink(takes_leaves=takes_leaves)
    await scene.fetch(sink)
    assert sink.data == DATA
    assert sink.trusted == dag_of(DATA)
    assert scene.seen == Seen(received=scene.seen.received)
    assert len(scene.seen.received) >= min(count, 2)


@pytest.mark.parametrize("data", [b"", b"x", SMALL, DATA[:LEAF_BYTES], DATA[: LEAF_BYTES + 1]])
async def test_small_blobs_come_whole(scene: Scene, data: bytes) -> None:
    await scene.peer(data)
    sink = MemorySink()
    await scene.fetch(sink, data)
    assert sink.data == data
    assert sink.size == len(data)


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        ({"stall_after": 2 * LEAF_BYTES + 5}, "failed"),
        ({"cut_after": 2 * LEAF_BYTES + 5}, "failed"),
        ({"trickle_s": 0.02}, "failed"),
        ({"status": 500}, "failed"),
        ({"status": 401}, "lacks or failed"),
        ({"flip_at": 3 * LEAF_BYTES}, "lied"),
        ({"flip_at": 0}, "lied"),
        ({"wrong_node": True}, "lied"),
        ({"status": 404}, "lacks"),
        ({"hang": frozenset({"/ipfs/"})}, "failed"),
    ],
)
async def test_a_bad_peer_is_reported_and_a_good_one_takes_over(
    scene: Scene, faults: dict[str, object], outcome: str
) -> None:
    bad = await scene.peer(DATA, **faults)
    await scene.peer()
    sink = MemorySink()
    await scene.fetch(sink)
    assert sink.data == DATA
    told = {"failed": scene.seen.failed, "lied": scene.seen.lied, "lacks": scene.seen.lacks}
    where = {name for name, peers in told.items() if bad.id in peers}
    if "trickle_s" not in faults:  # who is only slow may simply have lost its work to the other
        assert where <= set(outcome.split(" or ")), where
        assert where


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"stall_after": LEAF_BYTES // 2}, UnreachableError),
        ({"cut_after": 5 * LEAF_BYTES}, UnreachableError),
        ({"trickle_s": 0.2}, UnreachableError),
        ({"flip_at": 4 * LEAF_BYTES}, UnreachableError),
        ({"status": 404}, NotFoundError),
        ({"status": 503}, UnreachableError),
    ],
)
async def test_without_a_good_peer_it_ends_in_an_error_and_wrong_bytes_are_never_written(
    scene: Scene, faults: dict[str, object], error: type[LayermeshError]
) -> None:
    await scene.peer(DATA, **faults)
    sink = MemorySink()
    with pytest.raises(error):
        await scene.fetch(sink)
    for offset, length in sink.writes:
        assert sink.data[offset : offset + length] == DATA[offset : offset + length]


async def test_a_flipped_byte_in_a_small_blob_is_never_written(scene: Scene) -> None:
    await scene.peer(SMALL, flip_at=69_999)
    sink = MemorySink()
    with pytest.raises(UnreachableError):
        await scene.fetch(sink, SMALL)
    assert sink.writes == []
    assert scene.seen.lied == ["0" * 32]


async def test_it_goes_on_from_what_is_here(scene: Scene) -> None:
    await scene.peer()
    sink = MemorySink(DATA[: 7 * LEAF_BYTES + 99])
    await scene.fetch(sink)
    assert sink.data == DATA
    assert min(offset for offset, _ in sink.writes) == 7 * LEAF_BYTES


async def test_the_first_leaf_is_written_long_before_the_last_comes(scene: Scene) -> None:
    await scene.peer(DATA, stall_after=3 * LEAF_BYTES)
    sink = MemorySink()
    with pytest.raises(UnreachableError):
        await scene.fetch(sink)
    assert sink.prefix >= LEAF_BYTES


async def test_a_peer_that_dies_in_the_middle_is_replaced(scene: Scene) -> None:
    dying = FakePeer(id="d" * 32, certificate=scene.tls, faults=Faults(stall_after=9 * LEAF_BYTES))
    dying.hold(DATA)
    sink = MemorySink()
    async with asyncio.TaskGroup() as group, fake_peer(dying):
        scene.peers.append(dying)
        await scene.peer(DATA, trickle_s=0.001)
        group.create_task(scene.fetch(sink))
        await asyncio.wait_for(sink.first_write.wait(), 5)
    assert sink.data == DATA


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + LEAF_BYTES, 2 * LEAF_BYTES])
async def test_a_cid_of_another_size_is_a_wrong_mapping(scene: Scene, size: int) -> None:
    await scene.peer()
    with pytest.raises(WrongMappingError):
        await scene.fetch(MemorySink(), size=size)


@pytest.mark.parametrize("takes_leaves", [True, False])
async def test_a_full_disk_is_no_peers_fault(scene: Scene, takes_leaves: bool) -> None:
    await scene.peer()
    await scene.peer()
    with pytest.raises(FullError):
        await scene.fetch(MemorySink(refuse=FullError("no room"), takes_leaves=takes_leaves))
    assert scene.seen == Seen(received=scene.seen.received)


async def test_a_stalled_peer_does_not_delay_the_end_when_others_have_the_rest(scene: Scene) -> None:
    await scene.peer(DATA, stall_after=1)
    await scene.peer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    sink = MemorySink()
    await scene.fetch(sink)
    assert sink.data == DATA
    assert loop.time() - began < 3.0
