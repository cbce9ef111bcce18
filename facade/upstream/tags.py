"""How much a tag's known meaning counts beside upstream's word: an operator's choice, decided purely."""

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, Self

from node.errors import InvalidError
from node.reference import Tag

_TTL: Final = re.compile(r"ttl=([0-9]{1,9})([smhd]?)")
_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Rule(StrEnum):
    """`upstream`: ask, and have nothing else. `stale-if-error`: ask; the last known meaning where there is no answer.

    `ttl`: the same, but what upstream said here a while ago counts. `pinned`: what it said here once counts for good.
    """

    UPSTREAM = "upstream"
    STALE_IF_ERROR = "stale-if-error"
    TTL = "ttl"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class TagPolicy:
    """A rule, and for `ttl` how long it holds, in seconds."""

    rule: Rule = Rule.STALE_IF_ERROR
    ttl_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `upstream`, `ttl=TIME` (seconds, or with s, m, h or d behind them), `stale-if-error` or `pinned`.

        Raises:
            InvalidError: saying what is expected.
        """
        if match := _TTL.fullmatch(text):
            return cls(Rule.TTL, float(match[1]) * _UNIT_S[match[2]])
        if text in (Rule.UPSTREAM, Rule.STALE_IF_ERROR, Rule.PINNED):
            return cls(Rule(text))
        raise InvalidError("upstream, ttl=TIME (such as ttl=5m), stale-if-error or pinned is expected")

    def holds_s(self, age_s: float) -> float:
        """How much longer upstream need not be asked, `age_s` after it told this node; 0 for at once.

        An age below 0 is that of a clock which was set.
        """
        if self.rule is Rule.PINNED:
            return float("inf")
        return max(0.0, self.ttl_s - age_s) if self.rule is Rule.TTL and age_s >= 0 else 0.0

    @property
    def falls_back(self) -> bool:
        """Whether the last known meaning, this node's or a member's, counts while upstream cannot answer."""
        return self.rule is not Rule.UPSTREAM


def choose(policies: tuple[tuple[str, TagPolicy], ...], tag: Tag) -> TagPolicy:
    """The first whose pattern (`*`, `?`, `[...]`) matches the whole tag; `stale-if-error` where none does."""
    return next((policy for pattern, policy in policies if fnmatchcase(tag.text, pattern)), TagPolicy())
