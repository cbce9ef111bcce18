"""Fetching one blob from many peers at once: every leaf is verified before it is written."""

import asyncio
import hashlib
import math
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from yarl import URL

from cluster.config import Limits, Timings
from cluster.swarm.leaves import WrongMappingError, fetch_dag
from cluster.swarm.plan import Piece, Plan
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.gateway import GatewayClient
from node.source import LeafSink, LeafWriter, Sink
from node.unixfs import EMPTY_LEAF, HASH_BYTES, LEAF_BYTES, Dag, Leaf
from node.workers import Pulse

SMALLEST_WAIT_S: Final = 0.05
_MOST_AT_ONCE: Final = 4
"""A thread takes so many leaves in a row when they come quickly; fewer at first, for the first byte's sake."""


@dataclass(frozen=True, slots=True)
class Source:
    """A peer to fetch from."""

    peer_id: str
    url: URL
    proof: Callable[[str], Mapping[str, str]]
    """Headers that prove who we are, for a GET of a path with query."""
    digest: Digest
    """What the peer says that the file is."""
    tls: ssl.SSLContext | None = None
    """What judges the certificate at the other end, where TLS is spoken."""
    by_block: bool = False
    """Whether it is asked for one leaf after another as a raw block, for it may serve no parts of plain files."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Whom the swarm tells what a peer did."""

    failed: Callable[[Source, str], None]
    lied: Callable[[Source, str], None]
    lacks: Callable[[Source], None]
    received: Callable[[Source, int], None]


class Swarm:
    """Fetches blobs; one for the whole cluster."""

    def __init__(self, gateway: GatewayClient, timings: Timings, limits: Limits, faults: Faults) -> None:
        self.gateway = gateway
        self.timings = timings
        self.limits = limits
        self.faults = faults

    async def fetch(self, cid: Cid, size: int, sources: Sequence[Source], sink: Sink) -> None:
        """Write the file `cid` of `size` bytes from `sink.prefix` on, first byte as early as possible.

        Raises:
            NotFoundError: when none of the sources has it.
            UnreachableError: when no source is left that gives bytes in time.
            WrongMappingError: when `cid` is none of a file of this size.
            MismatchError: when the sink was told of another size.
            FullError: when the disk has no room.
        """
        sink.expect(size)
        fetch = _Fetch(self, cid, sources, sink)
        if cid.codec is Codec.RAW:
            if size == 0 and cid.hash != EMPTY_LEAF:
                raise WrongMappingError(f"{cid} is not empty")
            dag = Dag(size, cid, cid.hash, ())
        else:
            dag = await fetch_dag(cid, size, fetch.block)
        await fetch.be_trusted(dag)
        await fetch.run(dag)


class _SinkFailed(Exception):
    """The sink did not take bytes, which is no peer's fault."""

    def __init__(self, error: LayermeshError) -> None:
        super().__init__(str(error))
        self.error = error


class _Fetch:
    """One blob on its way."""

    def __init__(self, swarm: Swarm, cid: Cid, sources: Sequence[Source], sink: Sink) -> None:
        self._swarm = swarm
        self._cid = cid
        self._sources = list(sources)
        self._sink = sink
        self._place: LeafWriter | None = None
        self._landed: Callable[[int, int], Awaitable[None]] | None = None
        self._using: Counter[str] = Counter()
        self._moved = Pulse()
        self._workers: list[asyncio.Task[None]] = []
        self._at_work: dict[int, tuple[Source, Piece]] = {}
        self._refused: LayermeshError | None = None
        self._fault: str | None = None

    async def be_trusted(self, dag: Dag) -> None:
        """Let threads write leaves where the sink takes them; else they are handed to it one by one."""
        if isinstance(self._sink, LeafSink) and not any(source.by_block for source in self._sources):
            self._place, self._landed = await self._sink.trust(dag), self._sink.landed

    async def block(self, cid: Cid) -> bytes:
        """An interior node from the first source that has it."""
        while self._sources:
            source = self._sources[0]
            headers = source.proof(f"/ipfs/{cid}?format=raw")
            try:
                async with asyncio.timeout(self._swarm.timings.leaf_s):
                    data = await self._swarm.gateway.block(source.url, cid, headers=headers, tls=source.tls)
            except (LayermeshError, TimeoutError) as error:
                self._lost(source, error)
            else:
                self._swarm.faults.received(source, len(data))
                return data
        raise self._end()

    async def run(self, dag: Dag) -> None:
        """Fetch the leaves."""
        if self._sink.prefix >= dag.size:
            return
        hedge_s, most = self._swarm.timings.hedge_s, self._swarm.limits.leaves_per_request
        plan = Plan(self._sink.prefix // LEAF_BYTES, dag.leaf_count, hedge_s, most)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in range(self._slots(dag)):
                    self._workers.append(group.create_task(self._work(slot, plan, dag)))
        except* _SinkFailed as failed:
            errors = [each.error for each in failed.exceptions if isinstance(each, _SinkFailed)]
            self._refused = next((error for error in errors if isinstance(error, FullError)), errors[0])
        if self._refused is not None:
            raise self._refused
        if not plan.complete:
            raise self._end()

    def _slots(self, dag: Dag) -> int:
        limits = self._swarm.limits
        most = min(limits.requests_in_flight, limits.requests_per_peer * len(self._sources))
        return min(most, max(1, dag.leaf_count // 4))

    async def _work(self, slot: int, plan: Plan, dag: Dag) -> None:
        """One connection: piece after piece, from whichever source is least used."""
        while not plan.complete:
            source = self._pick()
            if source is None:
                return
            piece = plan.take(slot, asyncio.get_running_loop().time())
            if piece is None:
                await self._wait()
                continue
            self._using[source.peer_id] += 1
            self._at_work[slot] = source, piece
            fetch = self._fetch_blocks if source.by_block else self._fetch_piece
            try:
                await fetch(source, piece, plan, dag)
            except LayermeshError as error:
                self._lost(source, error)
            finally:
                self._using[source.peer_id] -= 1
                del self._at_work[slot]
                plan.release(piece)
                self._moved.beat()

    async def _fetch_piece(self, source: Source, piece: Piece, plan: Plan, dag: Dag) -> None:
        loop, timings = asyncio.get_running_loop(), self._swarm.timings
        start, stop = piece.at * LEAF_BYTES, min(piece.stop * LEAF_BYTES, dag.size)
        headers = source.proof(f"/ipfs/{self._cid}")
        blocks = self._swarm.gateway.blocks(
            source.url,
            self._cid,
            start,
            stop,
            headers=headers,
            stall_s=timings.stall_s,
            block_s=timings.leaf_s,
            tls=source.tls,
        )
        async with blocks as receiver:
            at_once = 1
            while piece.at < piece.stop and source in self._sources and not plan.complete:
                leaves = [dag.leaf(at) for at in range(piece.at, min(piece.stop, piece.at + at_once))]
                piece.held = piece.at + len(leaves)
                hashes = dag.leaves[piece.at * HASH_BYTES : (piece.at + at_once) * HASH_BYTES]
                use = partial(self._take, plan, piece, leaves, hashes)
                taken = await receiver.blocks([leaf.length for leaf in leaves], use)
                for left, (leaf, data) in enumerate(zip(leaves, taken, strict=False), 1 - len(taken)):
                    if not plan.has(piece.at):
                        await self._write(leaf, data)
                    self._swarm.faults.received(source, leaf.length)
                    plan.done(piece, math.inf if left else loop.time())
                self._moved.beat()
                at_once = min(at_once + 1, _MOST_AT_ONCE)
            if plan.complete:
                self._stop_others(plan)
            if isinstance(receiver.failure, LayermeshError):  # others took over the rest before it was asked for
                raise receiver.failure

    async def _fetch_blocks(self, source: Source, piece: Piece, plan: Plan, dag: Dag) -> None:
        loop, timings = asyncio.get_running_loop(), self._swarm.timings
        while piece.at < piece.stop and source in self._sources and not plan.complete:
            leaf = dag.leaf(piece.at)
            piece.held = piece.at + 1
            headers = source.proof(f"/ipfs/{leaf.cid}?format=raw")
            try:
                async with asyncio.timeout(timings.leaf_s):
                    data = await self._swarm.gateway.block(
                        source.url, leaf.cid, headers=headers, stall_s=timings.stall_s, tls=source.tls
                    )
            except TimeoutError:
                raise UnreachableError(f"{source.url}: a block took longer than {timings.leaf_s:g} s") from None
            plan.came(piece, loop.time())
            if not plan.has(piece.at):
                await self._write(leaf, data)
            self._swarm.faults.received(source, leaf.length)
            plan.done(piece, loop.time())
            self._moved.beat()
        if plan.complete:
            self._stop_others(plan)

    def _stop_others(self, plan: Plan) -> None:
        """All is here: nobody need wait for connections that still fetch something twice."""
        now = asyncio.get_running_loop().time()
        for source, piece in list(self._at_work.values()):
            if plan.lags(piece, now):
                self._lost(source, UnreachableError("it stalled, and others did its work"))
        for worker in self._workers:
            if worker is not asyncio.current_task():
                worker.cancel()

    def _take(
        self, plan: Plan, piece: Piece, leaves: list[Leaf], hashes: bytes, index: int, data: memoryview
    ) -> bytes | None:
        """Verify one of the leaves and place it; a copy where it cannot be placed. In the thread that received it."""
        if not index:
            plan.came(piece, time.monotonic())
        if hashlib.sha256(data).digest() != hashes[index * HASH_BYTES :][:HASH_BYTES]:
            raise MismatchError("its bytes are not those of the block it names")
        if self._place is None:
            return bytes(data)
        try:
            self._place(leaves[index].offset, data)
        except LayermeshError as error:
            raise _SinkFailed(error) from error
        return None

    async def _write(self, leaf: Leaf, data: bytes | None) -> None:
        try:
            if data is not None:
                await self._sink.write(leaf.offset, data)
            elif self._landed is not None:
                await self._landed(leaf.offset, leaf.length)
        except LayermeshError as error:
            raise _SinkFailed(error) from error

    def _pick(self) -> Source | None:
        most = self._swarm.limits.requests_per_peer
        free = [source for source in self._sources if self._using[source.peer_id] < most]
        return min(free, key=lambda source: self._using[source.peer_id], default=None)

    def _lost(self, source: Source, error: LayermeshError | TimeoutError) -> None:
        """A source gave nothing good: go on with the others."""
        if source not in self._sources:
            return
        self._sources.remove(source)
        reason = str(error) or "it gave no bytes in time"
        if isinstance(error, MismatchError):
            self._swarm.faults.lied(source, reason)
        elif isinstance(error, NotFoundError):
            self._swarm.faults.lacks(source)
        else:
            self._swarm.faults.failed(source, reason)
        if not isinstance(error, NotFoundError):
            self._fault = reason

    def _end(self) -> LayermeshError:
        if self._fault is None:
            return NotFoundError("no peer has the blob any more")
        return UnreachableError(f"no peer is left that gives the blob: {self._fault}")

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(SMALLEST_WAIT_S, self._swarm.timings.hedge_s / 2)):
                await self._moved.wait()
