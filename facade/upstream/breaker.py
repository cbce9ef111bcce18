"""Which endpoints gave no answer lately (a circuit breaker): pure, the clock is passed in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from facade.upstream.config import Endpoint

TRIPS_AT: Final = 2
"""So many failures in a row open a breaker; one that cost a whole wait counts for as many."""


class BreakerState(StrEnum):
    """`closed`: asked as usual. `open`: failed, asked last. `half-open`: one request finds out how it is now."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of one endpoint; every event makes a new one. Times are those of one monotonic clock."""

    failures: int = 0
    open_until: float | None = None
    trying: bool = False

    def state(self, now: float) -> BreakerState:
        """How it stands."""
        if self.open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN

    def worth_asking(self, now: float) -> bool:
        """Whether to ask it although something else could answer; of a half-open one that is so for one request."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self.trying)

    def asked(self, now: float) -> "Breaker":
        """A request has begun."""
        return replace(self, trying=True) if self.state(now) is BreakerState.HALF_OPEN else self

    def left(self) -> "Breaker":
        """A request was given up by whoever made it, which says nothing."""
        return replace(self, trying=False)

    def failed(self, now: float, open_s: float, *, slow: bool) -> "Breaker":
        """It gave no answer; `slow` when that took the whole wait."""
        failures = self.failures + (TRIPS_AT if slow else 1)
        opens = failures >= TRIPS_AT or self.open_until is not None
        return Breaker(failures, now + open_s if opens else None)


_CLOSED: Final = Breaker()


class Breakers:
    """One breaker for each endpoint. They refuse nothing: nobody may be worse off than by asking directly."""

    def __init__(self, open_s: float, clock: Callable[[], float]) -> None:
        self._open_s = open_s
        self._clock = clock
        self._broken: dict[Endpoint, Breaker] = {}

    def of(self, endpoint: Endpoint) -> BreakerState:
        """How it stands."""
        return self._of(endpoint).state(self._clock())

    def worth_asking(self, endpoint: Endpoint) -> bool:
        """See `Breaker.worth_asking`."""
        return self._of(endpoint).worth_asking(self._clock())

    def in_order(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """As the operator wrote them, those that failed lately last."""
        return sorted(endpoints, key=lambda endpoint: not self.worth_asking(endpoint))

    def asked(self, endpoint: Endpoint) -> None:
        """A request has begun: it ends with one of the calls below."""
        if endpoint in self._broken:
            self._broken[endpoint] = self._broken[endpoint].asked(self._clock())

    def answered(self, endpoint: Endpoint) -> None:
        """It gave an answer, whichever."""
        self._broken.pop(endpoint, None)

    def failed(self, endpoint: Endpoint, *, slow: bool) -> None:
        """See `Breaker.failed`."""
        self._broken[endpoint] = self._of(endpoint).failed(self._clock(), self._open_s, slow=slow)

    def left(self, endpoint: Endpoint) -> None:
        """See `Breaker.left`."""
        if endpoint in self._broken:
            self._broken[endpoint] = self._broken[endpoint].left()

    def _of(self, endpoint: Endpoint) -> Breaker:
        return self._broken.get(endpoint, _CLOSED)
