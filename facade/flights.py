"""All blobs being fetched now, one flight for each: which source is asked next, and what becomes of the bytes."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from cluster.cluster import Cluster
from facade.background import Background
from facade.flight import Flight
from facade.ipfs import NO_IPFS, Ipfs
from facade.metrics import Metrics
from facade.neighbours import Neighbours
from facade.pace import Paces, TooSlowError
from facade.settings import Waits
from facade.sources import Attempt, NetworkFile, NetworkName, Offer, Plan, SourceName, done_in_time, next_plan, offers
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.reference import OWN
from node.source import BlobSource, Wanted
from node.store import Store

log = structlog.get_logger(__name__)


class _Impatient(UnreachableError):
    """A source was only too slow: a stranger's bytes for the patience of clients, or the IPFS network's first byte."""


class BlobUpstream(BlobSource, Protocol):
    """The registries behind us, as a source of blobs."""

    def available(self, namespace: str) -> bool:
        """False while the namespace's registry is put aside after a failure."""


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
        ipfs: Ipfs = NO_IPFS,
    ) -> None:
        self._background = background
        self._ipfs = ipfs
        self._store = store
        self._cluster = cluster
        self._neighbours = Neighbours(store, cluster)
        self._upstream = upstream
        self._waits = waits
        self._metrics = metrics
        self._paces = Paces(waits.pace_s)
        self._flights: dict[Digest, Flight] = {}

    def current(self, wanted: Wanted) -> Flight | None:
        """The flight that fetches the blob now, if whoever wants it may join, and does not join a lost cause."""
        flight = self._flights.get(wanted.digest)
        if flight is None or flight.stands_still(self._waits.progress_s):
            return None
        return flight if flight.is_open or flight.wanted.repository == wanted.repository else None

    @property
    def missing_bytes(self) -> int:
        """How many bytes all flights together still have to bring, as far as it is known."""
        return sum(max(0, (flight.size or 0) - flight.received) for flight in self._flights.values())

    def landing(self, digest: Digest) -> bool:
        """Whether the blob is whole and verified, and only has to be entered in the store."""
        flight = self._flights.get(digest)
        return flight is not None and flight.verified

    def start(self, wanted: Wanted, *, is_open: bool) -> Flight:
        """Fetch a blob; it goes on to its end even when nobody waits for it any more.

        `is_open` says that anybody may have it, whichever repository they ask for.
        """
        flight = self._flights[wanted.digest] = Flight(wanted, self._metrics, is_open)
        self._background.start(self._fly(flight), f"flight {wanted.digest}")
        return flight

    async def _fly(self, flight: Flight) -> None:
        try:
            async with self._store.ingest(flight.wanted) as ingest:
                flight.begin(ingest)
                watch = self._background.start(flight.watch(), "flight watch")
                try:
                    await self._gather(flight)
                    await ingest.commit(at_most=flight.at_most)
                except LayermeshError as failure:
                    flight.fail(failure)  # while the file is open: readers may still want what they were promised
                finally:
                    watch.cancel()
                    self._land(flight)
        except LayermeshError as failure:
            flight.fail(failure)
        except Exception as error:  # a defect of ours: who waits is told, and the log has it
            flight.fail(UnreachableError(f"{flight.wanted.digest}: this node failed: {type(error).__name__}"))
            raise
        finally:
            flight.fail(UnreachableError("this node is stopping"))
            self._land(flight)
            flight.land()

    def _land(self, flight: Flight) -> None:
        """Let nobody join any more: the blob is in the store, or not to be had."""
        if self._flights.get(flight.wanted.digest) is flight:
            del self._flights[flight.wanted.digest]

    async def _gather(self, flight: Flight) -> None:
        """Follow one plan after another until the blob is whole and verified."""
        wanted = flight.wanted
        known = offers(await self._neighbours.holders(wanted.repository, wanted.digest), wanted.size)
        is_near = True  # no peer waits for what IPFS has
        deadline = asyncio.get_running_loop().time() + self._waits.strangers_s
        tried: list[Attempt] = []
        failure: LayermeshError = NotFoundError(f"{wanted.digest}: no source has it")
        while plan := next_plan(known, tried, begun=flight.exposed > 0):
            if is_near and plan.offer.name is SourceName.UPSTREAM:
                known, is_near = (*known, *await self._ipfs.offers(wanted)), False
                continue
            try:
                flight.follow(plan)
                await self._ask(flight, plan, deadline, tried)
                await flight.verify()
                return
            except FullError:
                raise
            except MismatchError as error:
                failure = error
                tried.extend(self._blame(flight, plan))
            except LayermeshError as error:
                failure = error
                pace = error.bytes_per_s if isinstance(error, TooSlowError) else None
                tried.append(Attempt(plan, isinstance(error, _Impatient) or pace is not None, pace=pace))
                if not plan.streamed:
                    flight.restart()
            flight.upstream_failed |= plan.offer.name is SourceName.UPSTREAM
            log.info("source failed", digest=str(wanted.digest), source=str(plan.offer.name), why=str(failure))
        raise failure

    def _blame(self, flight: Flight, plan: Plan) -> list[Attempt]:
        """Wrong bytes: everyone who gave some is tried and done, but upstream only if it gave them all."""
        contributors = flight.restart()
        peers = [one for one in contributors if one.offer.name is not SourceName.UPSTREAM]
        for one in peers:
            if one.offer.cid is not None:
                self._cluster.blame(flight.wanted.digest, one.offer.cid)
        if plan.offer.name is SourceName.UPSTREAM and peers:
            return [Attempt(one) for one in peers]
        return [Attempt(plan, amiss=True), *(Attempt(one) for one in peers)]

    async def _ask(self, flight: Flight, plan: Plan, deadline: float, tried: Sequence[Attempt]) -> None:
        if plan.offer.name is SourceName.UPSTREAM:
            if flight.wanted.repository.namespace == OWN:
                raise UnreachableError(f"{flight.wanted.digest}: the members that have it are away")
            await self._ask_upstream(flight, plan, tried)
            return
        file = plan.offer.file
        if flight.size is None:
            flight.expect(file.size if file else plan.offer.holders[0].size)
        if plan.streamed or not flight.size:
            await self._give(flight, plan.offer)
        else:
            await self._ask_strangers(flight, plan, deadline)

    async def _give(self, flight: Flight, offer: Offer) -> None:
        """Fetch from peers, or from the IPFS network, where nobody may have it: its first byte must come soon."""
        if offer.file is None:
            await self._cluster.fetch(flight.wanted, offer.holders, flight)
            return
        namespace = flight.wanted.repository.namespace
        async with self._paces.of_network(
            flight,
            offer.file.network,
            lambda: not flight.upstream_failed and self._upstream.available(namespace),
        ):
            if offer.file.network is NetworkName.GATEWAYS:  # they are asked for a file before it is fetched
                await self._ipfs.fetch(flight.wanted, offer.file, flight, late=offer.late)
            else:
                await self._give_soon(flight, offer.file, late=offer.late)

    async def _give_soon(self, flight: Flight, file: NetworkFile, *, late: bool) -> None:
        loop = asyncio.get_running_loop()
        had = flight.received
        limit_s = self._waits.fallback_s if flight.upstream_failed else self._waits.swarm_s

        def look() -> None:
            if flight.received == had:
                limit.reschedule(loop.time())

        looking = loop.call_later(limit_s, look)
        try:
            async with asyncio.timeout(None) as limit:
                await self._ipfs.fetch(flight.wanted, file, flight, late=late)
        except TimeoutError:
            raise _Impatient(f"{file.cid}: IPFS gave nothing within {limit_s:g} s") from None
        finally:
            looking.cancel()

    async def _ask_upstream(self, flight: Flight, plan: Plan, tried: Sequence[Attempt]) -> None:
        """While others could still give it, upstream may not be silent for long, nor slower than what it came after.

        That one is streamed then, so it must have been before.
        """
        pace = next((one.pace for one in tried if one.pace is not None and one.plan.streamed), None)
        if pace is not None and not plan.last:
            async with self._paces.of_upstream(flight, pace):
                await self._upstream.fill(flight.wanted, flight)
            return
        loop = asyncio.get_running_loop()
        had = flight.received

        def look() -> None:
            if flight.received == had and not plan.last:
                limit.reschedule(loop.time())

        looking = loop.call_later(self._waits.fallback_s, look)
        try:
            async with asyncio.timeout(None) as limit:
                await self._upstream.fill(flight.wanted, flight)
        except TimeoutError:
            raise UnreachableError(f"{flight.wanted.digest}: upstream is silent, and strangers have it") from None
        finally:
            looking.cancel()

    async def _ask_strangers(self, flight: Flight, plan: Plan, deadline: float) -> None:
        """Nobody gets their bytes before all are verified: who cannot be done by the deadline is given up early."""
        loop = asyncio.get_running_loop()
        began, had = loop.time(), flight.received

        def look() -> None:
            got = flight.received - had
            left = (flight.size or 0) - flight.received
            in_time = done_in_time(got, loop.time() - began, left, deadline - loop.time())
            if not in_time and self._upstream.available(flight.wanted.repository.namespace):
                limit.reschedule(loop.time())

        limit = asyncio.timeout_at(deadline)
        looking = loop.call_later(self._waits.look_s, look)
        try:
            async with limit:
                await self._give(flight, plan.offer)
        except TimeoutError:
            raise _Impatient(f"{flight.wanted.digest}: strangers were slower than the patience of clients") from None
        finally:
            looking.cancel()
