"""The table of what is held (digest -> CID, size, visibility) and its change log."""

from dataclasses import dataclass

from node.cid import Cid
from node.digest import Digest
from node.repositories import TagSeen
from node.visibility import Audience as Audience
from node.visibility import Visibility as Visibility


@dataclass(frozen=True, slots=True)
class Holding:
    """A blob that is here; `visibility` is the one in effect when this was read."""

    digest: Digest
    cid: Cid
    size: int
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class Change:
    """What the log says of a digest at `seq`; `holding` is None when it is no longer held, or no longer to be seen."""

    seq: int
    digest: Digest
    holding: Holding | None


@dataclass(frozen=True, slots=True)
class TagChange:
    """A tag observation, as the log carries it."""

    seq: int
    seen: TagSeen


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of the log, oldest first. Ask again from `upto`; `more` says that there is more already."""

    log_id: str
    entries: tuple[Change | TagChange, ...]
    upto: int
    more: bool
