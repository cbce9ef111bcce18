"""What the tables say, as values: what is held, what a repository links to, what a tag was seen to mean."""

from dataclasses import dataclass
from typing import Final

from node.cid import Cid
from node.digest import Algorithm, Digest
from node.manifest import Role
from node.reference import Repository, Tag
from node.visibility import Shown, Visibility

_MARKS: Final = {Algorithm.SHA256: b"\x12", Algorithm.SHA512: b"\x13"}
_ALGORITHMS: Final = {mark[0]: algorithm for algorithm, mark in _MARKS.items()}


@dataclass(frozen=True, slots=True)
class Holding:
    """A blob that is here; `visibility` is the one in effect when this was read."""

    digest: Digest
    cid: Cid
    size: int
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file looked like when its bytes were last verified."""

    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the catalog."""

    id: int
    digest: Digest
    cid: Cid
    size: int
    shown: Shown
    stamp: Stamp

    def holding(self, now: float) -> Holding:
        """The row as others see it now."""
        return Holding(self.digest, self.cid, self.size, self.shown.at(now))


@dataclass(frozen=True, slots=True)
class Link:
    """That a repository names a blob: as what, and who may see it through this repository now."""

    repository: Repository
    digest: Digest
    media_type: str
    size: int
    role: Role
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class TagSeen:
    """What a tag meant when it was last looked at (`seen_at`, unix seconds).

    `lasting`: an operator brought it as a file, so that it counts for longer than what was looked up.
    """

    repository: Repository
    tag: Tag
    digest: Digest
    media_type: str
    seen_at: float
    size: int
    lasting: bool = False


def key_of(digest: Digest) -> bytes:
    """The digest as the tables keep it: one byte for the algorithm, and the hash."""
    return _MARKS[digest.algorithm] + bytes.fromhex(digest.hex)


def digest_of(key: bytes) -> Digest:
    """The inverse of `key_of`."""
    return Digest(_ALGORITHMS[key[0]], key[1:].hex())
