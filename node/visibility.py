"""Who may get a blob, and what proves it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self


class Visibility(StrEnum):
    """Who may get a blob: anyone, members of the cluster, or only this node's own clients of named repositories."""

    PUBLIC = "public"
    MEMBERS = "members"
    PRIVATE = "private"

    def opens_more_than(self, other: "Visibility") -> bool:
        """Whether more may see what is that visible."""
        order = list(Visibility)
        return order.index(self) < order.index(other)


class Audience(StrEnum):
    """Who reads the change log: anyone sees public blobs; members also members' blobs, and tag observations."""

    PUBLIC = "public"
    MEMBERS = "members"


FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Proof:
    """That content of a repository may be seen by `visibility` until `until` (unix seconds)."""

    visibility: Visibility
    until: float = FOREVER


@dataclass(frozen=True, slots=True)
class Shown:
    """Until when (unix seconds) something may be seen by anyone, and by members; 0 when never."""

    public_until: float = 0.0
    members_until: float = 0.0

    @classmethod
    def by(cls, proof: Proof | None) -> Self:
        """What one proof allows."""
        if proof is None or proof.visibility is Visibility.PRIVATE:
            return cls()
        if proof.visibility is Visibility.MEMBERS:
            return cls(members_until=proof.until)
        return cls(public_until=proof.until)

    def capped(self, at_most: Visibility) -> "Shown":
        """The same, to nobody whom `at_most` leaves out."""
        if at_most is Visibility.PUBLIC:
            return self
        if at_most is Visibility.PRIVATE:
            return Shown()
        return Shown(members_until=max(self.public_until, self.members_until))

    def at(self, now: float) -> Visibility:
        """The visibility that holds now."""
        if self.public_until > now:
            return Visibility.PUBLIC
        return Visibility.MEMBERS if self.members_until > now else Visibility.PRIVATE

    def __or__(self, other: "Shown") -> "Shown":
        return Shown(max(self.public_until, other.public_until), max(self.members_until, other.members_until))
