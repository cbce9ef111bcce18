"""Flights: blobs being fetched now. Everyone on this node who wants one shares it, and reads behind it as it grows."""

import asyncio
import os
from typing import Protocol

import structlog

from cluster.cluster import Cluster
from facade.background import Background
from facade.metrics import Metrics
from facade.settings import Waits
from facade.sources import Attempt, Plan, SourceName, exposed, next_plan, offers
from node.blobs import Ingest
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.source import BlobSource, Wanted
from node.store import Store
from node.unixfs import Dag

log = structlog.get_logger(__name__)


class _Impatient(UnreachableError):
    """A stranger's bytes did not verify within the patience of the clients."""


class BlobUpstream(BlobSource, Protocol):
    """The registries behind us, as a source of blobs."""

    def available(self, namespace: str) -> bool:
        """False while the namespace's registry is put aside after a failure."""


class Flight:
    """One blob on its way: the sink its sources write to, and what its readers may have of it."""

    def __init__(self, wanted: Wanted, metrics: Metrics) -> None:
        self.wanted = wanted
        self.source: SourceName | None = None
        self.epoch = 0
        self._metrics = metrics
        self._ingest: Ingest | None = None
        self._streamed = False
        self._verified = False
        self._failure: LayermeshError | None = None
        self._plan: Plan | None = None
        self._contributors: list[Plan] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def size(self) -> int | None:
        """The blob's size in bytes, once known."""
        return self._ingest.size if self._ingest else self.wanted.size

    @property
    def prefix(self) -> int:
        """How many bytes are here without a gap."""
        return self._ingest.prefix if self._ingest else 0

    @property
    def verified(self) -> bool:
        """Whether the whole agrees with its digest."""
        return self._verified

    @property
    def exposed(self) -> int:
        """How many bytes readers may have now."""
        if self._verified:
            return self.prefix
        return exposed(self.prefix, self.size, self._streamed)

    def expect(self, size: int) -> None:
        """Implements `Sink.expect`."""
        self._open_ingest.expect(size)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Implements `Sink.write`: store, count, and wake the readers."""
        assert self._plan is not None, "a source writes only while its plan is followed"
        if self._plan not in self._contributors:
            self._contributors.append(self._plan)
        await self._open_ingest.write(offset, data)
        self._metrics.fetched(self._plan.offer.name, len(data))
        self._wake()

    def trust(self, dag: Dag) -> None:
        """Leaves are verified against `dag` by the source that writes them."""
        self._open_ingest.trust(dag)

    @property
    def _open_ingest(self) -> Ingest:
        assert self._ingest is not None, "a source writes only while the flight is open"
        return self._ingest

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _moved(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def begin(self, ingest: Ingest) -> None:
        """The file is open; sources may write."""
        self._ingest = ingest

    async def watch(self) -> None:
        """Wake the readers whenever there is more to read; to be cancelled when the flight ends."""
        while True:
            before = self.prefix
            await self._open_ingest.wait_prefix(before)
            self._wake()
            if self.prefix <= before:  # this run of bytes is over: wait for the next write
                await self._moved()

    def follow(self, plan: Plan) -> None:
        """The next bytes come from `plan`."""
        if not self.exposed:
            self.source = plan.offer.name
        self._streamed = plan.streamed
        self._plan = plan

    async def verify(self) -> None:
        """Wait until the whole agrees with the digest, then let the readers have the last piece.

        Raises:
            MismatchError: when it does not.
        """
        await self._open_ingest.verified()
        self._verified = True
        self._wake()

    def restart(self) -> list[Plan]:
        """Forget every byte; readers who have some are cut. Returns the plans whose bytes these were."""
        contributors, self._contributors = self._contributors, []
        self._streamed = False
        self.epoch += 1
        self._open_ingest.restart()
        self._wake()
        return contributors

    def fail(self, failure: LayermeshError) -> None:
        """No source is left; every reader is told."""
        if not self._verified and self._failure is None:
            self._failure = failure
        self._wake()

    async def ready(self, limit_s: float) -> int:
        """Wait until an answer may begin; returns the size of the blob in bytes.

        Raises:
            UnreachableError: when that takes longer than `limit_s`.
            LayermeshError: what made the flight fail.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not self._verified and not self.exposed:
                    if self._failure:
                        raise self._failure
                    await self._moved()
        except TimeoutError:
            raise UnreachableError(f"{self.wanted.digest}: no source gave it within {limit_s:g} s") from None
        assert self.size is not None, "bytes are only exposed of a blob whose size is known"
        return self.size

    def reader(self) -> "Reader":
        """A view of the flight as it stands; to be closed."""
        return Reader(self, os.dup(self._open_ingest.fileno()))

    async def beyond(self, position: int, epoch: int, limit_s: float) -> int:
        """Wait until more than `position` bytes may be read; returns how many may.

        Raises:
            MismatchError: when the bytes read so far turned out wrong.
            UnreachableError: when nothing moves for `limit_s`.
        """
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    if self.epoch != epoch:
                        raise MismatchError(f"{self.wanted.digest}: a source gave wrong bytes; ask again")
                    if self.exposed > position:
                        return self.exposed
                    if self._failure:
                        raise self._failure
                    await self._moved()
        except TimeoutError:
            raise UnreachableError(f"{self.wanted.digest}: no bytes for {limit_s:g} s") from None


class Reader:
    """One client behind a flight: an open file of its own, and the run of bytes that it belongs to."""

    def __init__(self, flight: Flight, descriptor: int) -> None:
        self._flight = flight
        self._epoch = flight.epoch
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The growing file, for sendfile and pread."""
        return self._descriptor

    async def beyond(self, position: int, limit_s: float) -> int:
        """As `Flight.beyond`, for the run of bytes this reader began with."""
        return await self._flight.beyond(position, self._epoch, limit_s)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)


class Flights:
    """All flights of this node, one for each digest."""

    def __init__(
        self,
        background: Background,
        store: Store,
        cluster: Cluster,
        upstream: BlobUpstream,
        waits: Waits,
        metrics: Metrics,
    ) -> None:
        self._background = background
        self._store = store
        self._cluster = cluster
        self._upstream = upstream
        self._waits = waits
        self._metrics = metrics
        self._flights: dict[Digest, Flight] = {}

    def current(self, digest: Digest) -> Flight | None:
        """The flight that fetches `digest` now, if there is one."""
        return self._flights.get(digest)

    def landing(self, digest: Digest) -> bool:
        """Whether the blob is whole and verified, and only has to be entered in the store."""
        flight = self._flights.get(digest)
        return flight is not None and flight.verified

    def start(self, wanted: Wanted) -> Flight:
        """Fetch a blob; it goes on to its end even when nobody waits for it any more."""
        flight = self._flights[wanted.digest] = Flight(wanted, self._metrics)
        self._background.start(self._fly(flight), f"flight {wanted.digest}")
        return flight

    async def _fly(self, flight: Flight) -> None:
        digest = flight.wanted.digest
        try:
            async with self._store.ingest(flight.wanted) as ingest:
                flight.begin(ingest)
                watch = self._background.start(flight.watch(), "flight watch")
                try:
                    await self._gather(flight)
                    await ingest.commit()
                    self._land(flight)
                finally:
                    watch.cancel()
        except LayermeshError as failure:
            log.warning("flight failed", digest=str(digest), repository=str(flight.wanted.repository), why=str(failure))
            flight.fail(failure)
        finally:
            flight.fail(UnreachableError("this node is stopping"))
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        """Let nobody join any more: the blob is in the store, or not to be had."""
        if self._flights.get(flight.wanted.digest) is flight:
            del self._flights[flight.wanted.digest]

    async def _gather(self, flight: Flight) -> None:
        """Follow one plan after another until the blob is whole and verified."""
        wanted = flight.wanted
        known = offers(self._cluster.holders(wanted.digest), wanted.size)
        deadline = asyncio.get_running_loop().time() + self._waits.strangers_s
        tried: list[Attempt] = []
        failure: LayermeshError = NotFoundError(f"{wanted.digest}: no source has it")
        while plan := next_plan(known, tried, begun=flight.exposed > 0):
            try:
                flight.follow(plan)
                await self._ask(flight, plan, deadline)
                await flight.verify()
                return
            except FullError:
                raise
            except MismatchError as error:
                failure = error
                tried.extend(self._blame(flight, plan))
            except LayermeshError as error:
                failure = error
                tried.append(Attempt(plan, impatient=isinstance(error, _Impatient)))
                if not plan.streamed:
                    flight.restart()
            log.info("source failed", digest=str(wanted.digest), source=str(plan.offer.name), why=str(failure))
        raise failure

    def _blame(self, flight: Flight, plan: Plan) -> list[Attempt]:
        """Wrong bytes: everyone who gave some is tried and done, but upstream only if it gave them all."""
        contributors = flight.restart()
        peers = [one for one in contributors if one.offer.name is SourceName.PEER]
        for one in peers:
            self._cluster.blame(flight.wanted.digest, one.offer.holders[0].cid)
        if plan.offer.name is SourceName.UPSTREAM and peers:
            return [Attempt(one) for one in peers]
        return [Attempt(plan), *(Attempt(one) for one in peers)]

    async def _ask(self, flight: Flight, plan: Plan, deadline: float) -> None:
        if plan.offer.name is SourceName.UPSTREAM:
            await self._upstream.fill(flight.wanted, flight)
            return
        if flight.size is None:
            flight.expect(plan.offer.holders[0].size)
        limit = None if plan.streamed or flight.wanted.size == 0 else deadline
        try:
            async with asyncio.timeout_at(limit):
                await self._cluster.fetch(flight.wanted, plan.offer.holders, flight)
        except TimeoutError:
            raise _Impatient(f"{flight.wanted.digest}: strangers were slower than the patience of clients") from None
