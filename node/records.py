"""What the cluster's own repositories consist of: records that every member keeps. Of two about the same thing the
later one counts, by a clock that runs with the machine's and never behind what it has seen (a hybrid logical clock).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.digest import Digest

RESTORED: Final = "restored"
"""The own repository that the bytes of a backup come for, until its records say whose they are."""
TOMBSTONE_S: Final = 30 * 24 * 3600.0
"""A deletion is remembered for so long, so that a member that was away does not bring back what it missed."""
_TICKS: Final = 1 << 16
"""How many stamps fit in a millisecond."""


class Kind(StrEnum):
    """What a record is about."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"


@dataclass(frozen=True, slots=True)
class Content:
    """What a tag means, or what a manifest or blob of a repository is; `size` in bytes."""

    digest: Digest
    size: int
    media_type: str = ""
    artifact_type: str = ""
    subject: Digest | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A fact about an own repository; without `content` the thing was deleted.

    `name` is a tag's text, else the digest's. `stamp` orders the records about one thing, `origin` (a node id) those of
    one stamp; `base` is the stamp of the record that the writer saw in its place, 0 when none.
    """

    repository: str
    kind: Kind
    name: str
    content: Content | None
    stamp: int
    origin: str
    base: int = 0

    def supersedes(self, other: "Record") -> bool:
        """Whether this one counts rather than `other`, which is about the same thing."""
        return (self.stamp, self.origin) > (other.stamp, other.origin)

    def knew(self, other: "Record") -> bool:
        """Whether its writer had seen `other`, or a later one; else the two were written at once."""
        return self.base >= other.stamp


def stamp_at(now: float, last: int = 0) -> int:
    """The next stamp of a node whose clock says `now` (unix seconds) and that has seen `last`."""
    return max(int(now * 1000) * _TICKS, last + 1)


def time_of(stamp: int) -> float:
    """When a stamp was given, in unix seconds."""
    return stamp / _TICKS / 1000
