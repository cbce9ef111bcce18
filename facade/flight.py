"""One blob being fetched now: sources write to it, and everyone who wants it reads behind them as it grows."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from facade.metrics import Metrics
from facade.sources import Plan, SourceName, allowed_by, exposed
from facade.upstream.credentials import CLIENT
from node.blobs import Ingest
from node.errors import LayermeshError, MismatchError, UnreachableError
from node.source import LeafWriter, Wanted
from node.unixfs import Dag
from node.visibility import Visibility

log = structlog.get_logger(__name__)
HEAD_BYTES: Final = 64 * 1024
"""So much of a blob's beginning is readable from memory, so that its first byte need not wait for the disk."""


class Flight:
    """One blob on its way: the sink its sources write to, and what its readers may have of it."""

    def __init__(self, wanted: Wanted, metrics: Metrics, is_open: bool) -> None:
        self.wanted = wanted
        self.is_open = is_open
        """Whether anybody may have these bytes, so that clients of other repositories may join."""
        self.login = CLIENT.get()
        """Whose right upstream is asked with, where that counts."""
        self.source: SourceName | None = None
        self.epoch = 0
        self.upstream_failed = False
        """Whether upstream was asked, and did not give it."""
        self._metrics = metrics
        self._ingest: Ingest | None = None
        self._streamed = False
        self._verified = False
        self._failure: LayermeshError | None = None
        self._plan: Plan | None = None
        self._contributors: list[Plan] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._received = 0
        self._moved_at = 0.0
        self._head = bytearray()
        self._unopened: list[Reader] = []
        self._over = asyncio.Event()
        self._storing: list[None] = []
        """One for each piece that is being stored: threads may add and take away without a lock."""

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
        return exposed(max(self.prefix, len(self._head)), self.size, self._streamed)

    def stands_still(self, limit_s: float) -> bool:
        """Whether it began to give bytes, and none came for so long: whoever read it has been cut."""
        return bool(self.exposed) and not self._verified and _now() - self._moved_at > limit_s

    def expect(self, size: int) -> None:
        """Implements `Sink.expect`."""
        self._open_ingest.expect(size)

    @property
    def received(self) -> int:
        """How many bytes came since the last restart, in whichever order."""
        return self._received

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Implements `Sink.write`: store, count, and wake the readers."""
        if offset == len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - offset]
            self._wake()
        plan = self._contributor()
        with self._noting():
            await self._open_ingest.write(offset, data)
        self._came(plan, len(data))

    async def trust(self, dag: Dag) -> LeafWriter | None:
        """Implements `LeafSink.trust`."""
        place = await self._open_ingest.trust(dag)
        if place is None:
            return None

        def write(offset: int, leaf: memoryview) -> None:
            with self._noting():
                place(offset, leaf)

        return write

    async def landed(self, offset: int, length: int) -> None:
        """Implements `LeafSink.landed`: count, and wake the readers."""
        plan = self._contributor()
        with self._noting():
            await self._open_ingest.landed(offset, length)
        self._came(plan, length)

    @property
    def is_storing(self) -> bool:
        """Whether bytes that came wait for the disk or for hashes."""
        return bool(self._storing)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        self._storing.append(None)
        try:
            yield
        finally:
            self._storing.pop()

    def _contributor(self) -> Plan:
        assert self._plan is not None, "a source writes only while its plan is followed"
        if self._plan not in self._contributors:
            self._contributors.append(self._plan)
        return self._plan

    def _came(self, plan: Plan, count: int) -> None:
        self._received += count
        self._moved_at = _now()
        self._metrics.fetched(plan.offer.name, count)
        self._wake()

    @property
    def _open_ingest(self) -> Ingest:
        assert self._ingest is not None, "a source writes only while the flight is open"
        return self._ingest

    def _open_readers(self) -> None:
        """Give those who came before the file its descriptor, now that it has begun (or will stay empty)."""
        if self._unopened and (self.prefix or not self.size):
            unopened, self._unopened = self._unopened, []
            for reader in unopened:
                reader.open(self._open_ingest.fileno())

    def _wake(self) -> None:
        self._open_readers()
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

    @property
    def _is_silent(self) -> bool:
        """Whether upstream is asked, nobody is left besides, and nothing is here yet."""
        return self._plan is not None and self._plan.last and not self._received

    def follow(self, plan: Plan) -> None:
        """The next bytes come from `plan`."""
        if not self.exposed:
            self.source = plan.offer.name
        self._streamed = plan.streamed
        self._plan = plan
        self._wake()

    async def verify(self) -> None:
        """Wait until the whole agrees with the digest, then let the readers have the last piece.

        Raises:
            MismatchError: when it does not.
        """
        await self._open_ingest.verified()
        self._verified = True
        self._wake()

    @property
    def at_most(self) -> Visibility:
        """The widest visibility that those who gave the bytes allow: what members share stays among members."""
        return allowed_by(holder for plan in self._contributors for holder in plan.offer.holders)

    def restart(self) -> list[Plan]:
        """Forget every byte; readers who have some are cut. Returns the plans whose bytes these were."""
        contributors, self._contributors = self._contributors, []
        self._streamed = False
        self._received = 0
        self._head.clear()
        self._unopened.clear()
        self.epoch += 1
        self._open_ingest.restart()
        self._wake()
        return contributors

    def fail(self, failure: LayermeshError) -> None:
        """No source is left; every reader is told."""
        if not self._verified and self._failure is None:
            log.warning("flight failed", digest=str(self.wanted.digest), why=str(failure))
            self._failure = failure
            self._wake()
        self._unopened.clear()

    def land(self) -> None:
        """It is in the store, or not to be had."""
        self._over.set()

    async def over(self) -> None:
        """Wait until it is in the store, unless that has no room.

        Raises:
            LayermeshError: why it is not to be had.
        """
        await self._over.wait()
        if self._failure:
            raise self._failure

    async def ready(self, limit_s: float, silent_s: float) -> int:
        """Wait until an answer may begin; returns the size of the blob in bytes.

        Raises:
            UnreachableError: when that takes longer than `limit_s`, or than `silent_s` while only upstream is left, and
                silent.
            LayermeshError: what made the flight fail.
        """
        began = _now()
        try:
            async with asyncio.timeout(limit_s) as limit:
                while self._failure is None and not self._verified and not self.exposed:
                    limit.reschedule(began + (silent_s if self._is_silent else limit_s))
                    await self._moved()
        except TimeoutError:
            raise UnreachableError(f"{self.wanted.digest}: no source gave it within {_now() - began:.1f} s") from None
        if self._failure:
            raise self._failure
        assert self.size is not None, "bytes are only exposed of a blob whose size is known"
        return self.size

    def reader(self) -> "Reader":
        """A view of the flight as it stands; to be closed."""
        reader = Reader(self)
        self._unopened.append(reader)
        self._open_readers()
        return reader

    def head(self, start: int, stop: int) -> bytes:
        """What of these bytes is in memory; beyond it, all that is exposed is in the file."""
        self._open_readers()
        return bytes(memoryview(self._head)[start:stop])

    def remembered(self, stop: int) -> bytes | None:
        """All bytes up to `stop`, as long as memory has them."""
        return bytes(self._head[:stop]) if stop <= len(self._head) else None

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


def _now() -> float:
    return asyncio.get_running_loop().time()


class Reader:
    """One client behind a flight: an open file of its own, and the run of bytes that it belongs to."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._epoch = flight.epoch
        self._descriptor: int | None = None
        self._closed = False

    def open(self, descriptor: int) -> None:
        """The file has begun: keep it open for as long as this client reads."""
        if not self._closed:
            with suppress(OSError):  # too many open files: this client is cut, the others read on
                self._descriptor = os.dup(descriptor)

    def fileno(self) -> int:
        """The growing file, for sendfile and pread, once `head` gives nothing."""
        if self._descriptor is None:
            raise ConnectionError("the growing file could not be opened once more")
        return self._descriptor

    async def beyond(self, position: int, limit_s: float) -> int:
        """As `Flight.beyond`, for the run of bytes this reader began with."""
        return await self._flight.beyond(position, self._epoch, limit_s)

    def head(self, start: int, stop: int) -> bytes:
        """The bytes from `start` on that memory has, at most up to `stop`; the file has the rest of what is exposed."""
        return b"" if self._flight.epoch != self._epoch else self._flight.head(start, stop)

    def remembered(self, stop: int) -> bytes | None:
        """All bytes up to `stop`, as long as memory has them; else the file has."""
        return self._flight.remembered(stop) if self._flight.epoch == self._epoch else None

    def close(self) -> None:
        """Give the file back."""
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
