"""How fast a source brings a blob, and when it is left for one that may be faster.

A source that gave its first bytes may be slow behind them, for as long as a blob is large. It is judged by what came
within the last two seconds, again and again, and left while the promise can still be kept: three seconds at most.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from facade.sources import NetworkName, done_in_time
from node.errors import UnreachableError

LEAST_BYTES_PER_S: Final = 1_000_000
"""A network that gives less to all flights together is slow: leaves have 1 MiB, so this is two in two seconds."""
_LOOKS: Final = 8
"""So often within the time that is judged."""


class TooSlowError(UnreachableError):
    """A source gives a blob too slowly; `bytes_per_s` is what it gave of it lately."""

    def __init__(self, why: str, bytes_per_s: float) -> None:
        super().__init__(why)
        self.bytes_per_s = bytes_per_s


@dataclass(frozen=True, slots=True)
class _Seen:
    at_s: float
    own: int
    together: int


class Pace:
    """What came lately. Pure: the clock (seconds) is passed in."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[_Seen] = deque()

    @property
    def look_every_s(self) -> float:
        """How often `look` is to be called."""
        return self._window_s / _LOOKS

    def look(self, now: float, own: int, together: int, *, busy: bool) -> None:
        """So many bytes of this blob came so far, and so many of it and others from the same source.

        What this machine is to blame for counts for nothing: `busy` says that bytes wait for the disk or for hashes,
        and a look that comes late that nothing was read meanwhile.
        """
        if busy or (self._seen and now - self._seen[-1].at_s > 2 * self.look_every_s):
            self._seen.clear()
        self._seen.append(_Seen(now, own, together))
        while len(self._seen) > 1 and self._seen[1].at_s <= now - self._window_s:
            self._seen.popleft()

    @property
    def bytes_per_s(self) -> float:
        """What came of this blob lately."""
        elapsed_s = self._elapsed_s
        return (self._seen[-1].own - self._seen[0].own) / elapsed_s if elapsed_s else 0.0

    def is_slow(self, left: int, least_bytes_per_s: float) -> bool:
        """Whether less than that came of all, and the `left` bytes of this blob will not be here soon."""
        elapsed_s = self._elapsed_s
        if elapsed_s < self._window_s:
            return False
        first, last = self._seen[0], self._seen[-1]
        if last.together - first.together >= least_bytes_per_s * elapsed_s:
            return False
        return not done_in_time(last.own - first.own, elapsed_s, left, self._window_s / 2)

    @property
    def _elapsed_s(self) -> float:
        return self._seen[-1].at_s - self._seen[0].at_s if self._seen else 0.0


class Followed(Protocol):
    """A blob on its way, as far as its pace goes."""

    @property
    def size(self) -> int | None:
        """In bytes, once known."""

    @property
    def prefix(self) -> int:
        """How many bytes are here without a gap: another source goes on from there."""

    @property
    def received(self) -> int:
        """How many bytes came."""

    @property
    def is_storing(self) -> bool:
        """Whether bytes that came wait for the disk or for hashes."""


class Paces:
    """The pace of every blob that comes from an IPFS network, and of what came before one from there."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._given: Counter[NetworkName] = Counter()
        """What each network gave to all flights together."""

    @asynccontextmanager
    async def of_network(
        self, flight: Followed, network: NetworkName, may_leave: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """End the block where the network gives too little, to all flights together, and `may_leave` allows it.

        Many blobs at once share what a link gives: none of them is slow as long as all together are not.

        Raises:
            TooSlowError: when the block was ended.
        """

        def together(got: int) -> int:
            self._given[network] += got
            return self._given[network]

        async with self._watched(flight, LEAST_BYTES_PER_S, together, may_leave):
            yield

    @asynccontextmanager
    async def of_upstream(self, flight: Followed, left_bytes_per_s: float) -> AsyncIterator[None]:
        """End the block where upstream gives nothing, or less than half of what another gave that was left for it.

        Raises:
            TooSlowError: when the block was ended.
        """
        total = 0

        def own(got: int) -> int:
            nonlocal total
            total += got
            return total

        async with self._watched(flight, max(1.0, left_bytes_per_s / 2), own, lambda: True):
            yield

    @asynccontextmanager
    async def _watched(
        self, flight: Followed, least_bytes_per_s: float, together: Callable[[int], int], may_leave: Callable[[], bool]
    ) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        pace, had = Pace(self._window_s), flight.received
        looking: asyncio.TimerHandle

        def look() -> None:
            nonlocal had, looking
            got, had = flight.received - had, flight.received
            pace.look(loop.time(), had, together(got), busy=flight.is_storing)
            if pace.is_slow((flight.size or 0) - flight.prefix, least_bytes_per_s) and may_leave():
                limit.reschedule(loop.time())
            else:
                looking = loop.call_later(pace.look_every_s, look)

        try:
            async with asyncio.timeout(None) as limit:
                look()
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TooSlowError(f"only {pace.bytes_per_s / 1e6:.1f} MB/s came", pace.bytes_per_s) from None
        finally:
            looking.cancel()
