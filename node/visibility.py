"""Who may get a blob, and what proves it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self


class Visibility(StrEnum):
    """Who may get a blob: anyone, members of the cluster, or only this node's own clients of named repositories.

    What is shared is private, but for members over TLS, which are told the repositories that it is of.
    """

    PUBLIC = "public"
    MEMBERS = "members"
    SHARED = "shared"
    PRIVATE = "private"

    def opens_more_than(self, other: "Visibility") -> bool:
        """Whether more may see what is that visible."""
        order = list(Visibility)
        return order.index(self) < order.index(other)

    @property
    def hidden(self) -> bool:
        """Whether this node's clients get it only through repositories that really had it."""
        return self in (Visibility.SHARED, Visibility.PRIVATE)


class Audience(StrEnum):
    """Who reads the change log: anyone sees public blobs; members also members' blobs, and tag observations.

    `SHARING` are members over TLS, who see as well what is shared.
    """

    PUBLIC = "public"
    MEMBERS = "members"
    SHARING = "sharing"


FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Proof:
    """That content of a repository may be seen by `visibility` until `until` (unix seconds).

    `SHARED` is no proof, but says that members gave it who share it.
    """

    visibility: Visibility
    until: float = FOREVER


@dataclass(frozen=True, slots=True)
class Shown:
    """Until when (unix seconds) something may be seen by anyone, and by members; 0 when never.

    `shared`: whether members may have it besides, as content of some repository.
    """

    public_until: float = 0.0
    members_until: float = 0.0
    shared: bool = False

    @classmethod
    def by(cls, proof: Proof | None) -> Self:
        """What one proof allows."""
        if proof is None or proof.visibility.hidden:
            return cls()
        if proof.visibility is Visibility.MEMBERS:
            return cls(members_until=proof.until)
        return cls(public_until=proof.until)

    def capped(self, at_most: Visibility) -> "Shown":
        """The same, to nobody whom `at_most` leaves out."""
        if at_most is Visibility.PUBLIC:
            return self
        if at_most.hidden:
            return Shown()
        return Shown(members_until=max(self.public_until, self.members_until))

    def at(self, now: float) -> Visibility:
        """The visibility that holds now."""
        if self.public_until > now:
            return Visibility.PUBLIC
        if self.members_until > now:
            return Visibility.MEMBERS
        return Visibility.SHARED if self.shared else Visibility.PRIVATE

    def __or__(self, other: "Shown") -> "Shown":
        public_until, members_until = max(self.public_until, other.public_until), self.members_until
        return Shown(public_until, max(members_until, other.members_until), self.shared or other.shared)
