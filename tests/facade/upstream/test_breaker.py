"""Which endpoints are asked last: the breaker's states."""

from yarl import URL

from facade.upstream.breaker import Breakers, BreakerState
from facade.upstream.config import Endpoint

ONE, OTHER = (Endpoint("corp.test", URL(f"https://{name}.test")) for name in ("one", "other"))


class Clock:
    """A time that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_failures_in_a_row_or_one_whole_wait_open_it() -> None:
    breakers = Breakers(5.0, Clock())
    breakers.failed(ONE, slow=False)
    assert breakers.of(ONE) is BreakerState.CLOSED
    breakers.failed(ONE, slow=False)
    breakers.failed(OTHER, slow=True)
    assert breakers.of(ONE) is breakers.of(OTHER) is BreakerState.OPEN


def test_an_answer_closes_it_at_once_and_forgets_the_failures() -> None:
    breakers = Breakers(5.0, Clock())
    breakers.failed(ONE, slow=True)
    breakers.answered(ONE)
    breakers.failed(ONE, slow=False)
    assert breakers.of(ONE) is BreakerState.CLOSED


def test_half_open_it_is_worth_one_request() -> None:
    clock = Clock()
    breakers = Breakers(5.0, clock)
    breakers.failed(ONE, slow=True)
    assert not breakers.worth_asking(ONE)
    clock.now += 5.0
    assert breakers.of(ONE) is BreakerState.HALF_OPEN
    assert breakers.worth_asking(ONE)
    breakers.asked(ONE)
    assert not breakers.worth_asking(ONE)
    breakers.left(ONE)
    assert breakers.worth_asking(ONE)


def test_a_failure_while_half_open_opens_it_again() -> None:
    clock = Clock()
    breakers = Breakers(5.0, clock)
    breakers.failed(ONE, slow=True)
    clock.now += 5.0
    breakers.asked(ONE)
    breakers.failed(ONE, slow=False)
    assert breakers.of(ONE) is BreakerState.OPEN


def test_one_that_failed_is_asked_last_and_never_left_out() -> None:
    breakers = Breakers(5.0, Clock())
    breakers.failed(ONE, slow=True)
    assert breakers.in_order((ONE, OTHER)) == [OTHER, ONE]
    breakers.failed(OTHER, slow=True)
    assert breakers.in_order((ONE, OTHER)) == [ONE, OTHER]
