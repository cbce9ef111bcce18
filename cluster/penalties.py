"""Which peers are not asked at present, and why. Pure: the clock is passed in.

Faults are kept by address, not by the id that a peer claims: an id can be made up, and could frame somebody else.
"""

from dataclasses import dataclass
from typing import Final

from yarl import URL

from cluster.config import Timings

LIARS_PER_HOST: Final = 4
"""When so many addresses of one host lied, all its addresses that did not prove membership are set aside."""
MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Penalty:
    """Why an address is set aside, and until when."""

    reason: str
    until: float
    lied: bool


class Penalties:
    """The addresses that are set aside."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._given: dict[URL, Penalty] = {}

    def failed(self, url: URL, reason: str, now: float) -> None:
        """A peer stalled, cut or refused: it is not asked for blobs for a while."""
        self._give(url, Penalty(reason, now + self._timings.set_aside_s, lied=False), now)

    def lied(self, url: URL, reason: str, now: float) -> None:
        """A peer sent wrong bytes or malformed messages: it is not asked for anything for a long while."""
        self._give(url, Penalty(reason, now + self._timings.liar_s, lied=True), now)

    def returned(self, url: URL) -> None:
        """A member proved itself there anew: what went wrong before counts no more, but for lies."""
        penalty = self._given.get(url)
        if penalty is not None and not penalty.lied:
            del self._given[url]

    def of(self, url: URL, now: float, *, member: bool) -> Penalty | None:
        """The penalty in force."""
        penalty = self._given.get(url)
        if penalty is not None and penalty.until > now:
            return penalty
        if member or not self._given:
            return None
        liars = [p for other, p in self._given.items() if p.lied and p.until > now and other.host == url.host]
        if len(liars) < LIARS_PER_HOST:
            return None
        return Penalty(f"{len(liars)} peers on this host lied", max(p.until for p in liars), lied=True)

    def _give(self, url: URL, penalty: Penalty, now: float) -> None:
        old = self._given.get(url)
        if old is not None and old.lied and old.until > penalty.until:
            return
        if len(self._given) >= MOST:
            self._given = {other: p for other, p in self._given.items() if p.until > now}
        if len(self._given) >= MOST:
            last = sorted(self._given.items(), key=lambda item: item[1].until)
            self._given = dict(last[MOST // 4 :])
        self._given[url] = penalty
