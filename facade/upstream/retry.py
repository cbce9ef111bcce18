"""When something is tried again: pure decisions, time and randomness are passed in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from node.errors import LayermeshError, ThrottledError, UnreachableError


class FutileError(UnreachableError):
    """Asking for the same again would end the same way, such as a redirect that is never followed."""


class BusyError(UnreachableError):
    """A 503 that says when to ask again."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often, and how soon: exponential, with full jitter.

    At most `tries` in all, and none begins more than `within_s` after the first. Before the second try lies a pause of
    up to `first_s`, before each later one up to twice as much, never above `most_s`. Seconds all.
    """

    tries: int = 3
    first_s: float = 0.1
    most_s: float = 1.0
    within_s: float = 2.0

    def pause_s(self, tried: int, elapsed_s: float, draw: Callable[[], float], at_least_s: float = 0.0) -> float | None:
        """How long to wait after `tried` tries, the first begun `elapsed_s` ago; None to give up.

        `draw` gives a number from 0 up to 1; `at_least_s` is what was asked for.
        """
        if tried >= self.tries:
            return None
        pause = at_least_s + draw() * min(self.most_s, self.first_s * 2 ** (tried - 1))
        return pause if elapsed_s + pause < self.within_s else None


def asked_wait_s(failures: Iterable[LayermeshError]) -> float:
    """How long all who failed are to be left alone, in seconds: what that one said which may be asked again first."""
    return min((failure.wait_s if isinstance(failure, BusyError) else 0.0 for failure in failures), default=0.0)


def may_pass(failure: LayermeshError) -> bool:
    """Whether the same question may be answered in a moment: not where there was an answer, or a wait was asked for."""
    return isinstance(failure, UnreachableError) and not isinstance(failure, ThrottledError | FutileError)
