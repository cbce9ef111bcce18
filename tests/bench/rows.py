"""What a measurement yields: a row to judge, a peer that is missing, or a failure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Aim(StrEnum):
    """How a result is compared with its bound."""

    RATIO_AT_LEAST = "ratio at least"
    RATIO_AT_MOST = "ratio at most"
    ABOVE_BY_AT_MOST = "above by at most"
    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """What a row has to reach."""

    aim: Aim
    bound: float

    def met_by(self, result: float) -> bool:
        """Whether `result` is on the good side of the bound."""
        if self.aim in (Aim.RATIO_AT_LEAST, Aim.AT_LEAST):
            return result >= self.bound
        return result <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: our samples and a peer's, taken in alternation, so sample i of both saw the same machine.

    Without a peer, `theirs` is empty and `compare` is AT_LEAST or AT_MOST.
    """

    name: str
    what: str
    unit: str
    ours: tuple[float, ...]
    compare: Aim
    peer: str = ""
    theirs: tuple[float, ...] = ()
    bound: float | None = None
    note: str = ""

    @property
    def result(self) -> float:
        """The median over the rounds of: ours / theirs, ours - theirs, or ours alone."""
        if self.compare in (Aim.RATIO_AT_LEAST, Aim.RATIO_AT_MOST):
            return median(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        if self.compare is Aim.ABOVE_BY_AT_MOST:
            return median(a - b for a, b in zip(self.ours, self.theirs, strict=True))
        return median(self.ours)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when the row has none."""
        return None if self.bound is None else Target(self.compare, self.bound).met_by(self.result)


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer, or what a measurement needs, that is not on this machine; `provides` is the command that changes it."""

    name: str
    peer: str
    provides: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A measurement that broke; it says nothing about speed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Disturbed:
    """How many cores others kept busy during a measurement; ours and its peers' rows stand before it."""

    name: str
    cores: float


Outcome = Row | Missing | Failed | Disturbed


class MissingToolError(Exception):
    """Something that a measurement needs is not installed."""

    def __init__(self, peer: str, provides: str) -> None:
        super().__init__(f"{peer} is missing; get it with: {provides}")
        self.peer = peer
        self.provides = provides


class MeasureError(Exception):
    """A measurement broke: a process died, an answer was wrong."""


def middle(samples: Sequence[float]) -> float | None:
    """The median, or None without samples."""
    return median(samples) if samples else None
