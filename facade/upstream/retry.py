"""When something is tried again: pure decisions, time and randomness are passed in."""

from collections.abc import Callable
from dataclasses import dataclass

from node.errors import LayermeshError, ThrottledError, UnreachableError


class FutileError(UnreachableError):
    """Asking for the same again would end the same way, such as a redirect that is never followed."""


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

    def pause_s(self, tried: int, elapsed_s: float, draw: Callable[[], float]) -> float | None:
        """How long to wait after `tried` tries, the first begun `elapsed_s` ago; None to give up.

        `draw` gives a number from 0 up to 1.
        """
        if tried >= self.tries:
            return None
        pause = draw() * min(self.most_s, self.first_s * 2 ** (tried - 1))
        return pause if elapsed_s + pause < self.within_s else None


def may_pass(failure: LayermeshError) -> bool:
    """Whether the same question may be answered in a moment: not where there was an answer, or a wait was asked for."""
    return isinstance(failure, UnreachableError) and not isinstance(failure, ThrottledError | FutileError)
