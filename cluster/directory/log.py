"""What one peer's log says, as far as it was read. Pure."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cluster.messages import (
    BlobLine,
    DropLine,
    Line,
    LogPage,
    RecordLine,
    SharedLine,
    SharedTagLine,
    read_lines,
)
from node.catalog import Holding, LogEntry, RecordChange, SharedChange, TagChange, Visibility
from node.cid import RAW_LENGTH, Cid
from node.digest import Algorithm, Digest
from node.errors import InvalidError
from node.records import Record, stamp_at
from node.reference import Repository, Tag
from node.repositories import TagSeen

LATEST_S = 60.0
"""Observations dated later than this after now are ignored; records count when their time has come."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a page changed: the lines to keep, by the key that each replaces."""

    fresh: bool
    """Everything known before is void: the log is another one."""
    lines: tuple[Line, ...]
    log_id: str
    since: int
    upto: int
    gone: tuple[str, ...] = ()
    """The keys of lines to keep no longer, besides those of dropped blobs."""


@dataclass(slots=True)
class PeerLog:
    """The holdings and tag observations of one peer; `proven` when every line came over an authenticated channel.

    Of what members share, only the registry namespaces in `shares` are of interest here.
    """

    proven: bool
    shares: frozenset[str] = frozenset()
    log_id: str = ""
    since: int = 0
    whole: bool = False
    """Whether its end was reached at least once."""
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    tags: dict[tuple[Repository, Tag], TagSeen] = field(default_factory=dict)
    roots: dict[bytes, bytes] | None = None
    """By a blob's CID, its key in `blobs`; only where blobs are asked for by CID."""
    shared: dict[bytes, dict[Repository, bytes]] = field(default_factory=dict)
    """What it shares, as content of which repositories."""
    _shares: int = 0
    """How many of these there are."""
    late: dict[str, RecordLine] = field(default_factory=dict)
    """Records from a clock that is ahead, by what each is about, until their time has come."""

    def __len__(self) -> int:
        return len(self.blobs) + len(self.tags) + self._shares

    def apply(self, page: LogPage, now: float) -> Update:
        """Take in a page that answers a request for what follows `since` of `log_id`.

        Raises:
            InvalidError: when the page contradicts itself; nothing was taken in.
        """
        fresh = page.log != self.log_id
        if not fresh and page.upto < self.since:  # it lost its last changes, and may use their numbers again
            self.forget()
            return Update(True, (), page.log, 0, 0)
        start = 0 if fresh else self.since
        lines = [line for line in page.lines if self._wanted(line, now)]
        changes = read_lines(lines)
        _check_order(page, start)
        late = self.late_after(page, now)
        gone = tuple(self.late.keys() - late.keys())
        if fresh:
            self.forget()
        for change in changes:
            self._take(change)
        self.log_id, self.since, self.whole = page.log, page.upto, self.whole or not page.more
        self.late = late
        return Update(fresh, tuple(lines), page.log, start, page.upto, gone)

    def records(self, page: LogPage, now: float) -> list[Record]:
        """What counts of the records that a member's page tells of, and of those whose time has come.

        Raises:
            InvalidError: when one is malformed.
        """
        told = [line for line in page.lines if isinstance(line, RecordLine)]
        changes = read_lines([line for line in (*self.late.values(), *told) if not _is_late(line, now)])
        return [change.record for change in changes if isinstance(change, RecordChange)]

    def late_after(self, page: LogPage, now: float) -> dict[str, RecordLine]:
        """What `late` is once the page is taken in."""
        if not self.proven:
            return {}
        known = self.late if page.log == self.log_id else {}
        told = {line_key(line): line for line in page.lines if isinstance(line, RecordLine)}
        return {key: line for key, line in {**known, **told}.items() if _is_late(line, now)}

    def load(self, lines: Sequence[Line]) -> None:
        """Take in lines that were kept on disk.

        Raises:
            InvalidError: when a line is malformed.
        """
        for change in read_lines(lines):
            self._take(change)
        self.late |= {line_key(line): line for line in lines if isinstance(line, RecordLine)}

    def forget(self) -> None:
        """Start over."""
        self.blobs, self.tags, self.shared, self._shares, self.late = {}, {}, {}, 0, {}
        self.roots = None if self.roots is None else {}
        self.log_id, self.since, self.whole = "", 0, False

    def holding(self, digest: Digest, repositories: Collection[Repository] = ()) -> Holding | None:
        """What the peer holds under a digest, for everybody who sees the log or as content of these repositories.

        Where it is among members besides, that it is shared with these repositories says more: whose it is.
        """
        key = key_of(digest)
        packed, shared = self.blobs.get(key), self.shared.get(key, {})
        held = None if packed is None else _unpack(digest, packed)
        if held is not None and held.visibility is Visibility.PUBLIC:
            return held
        found = next((shared[repository] for repository in repositories if repository in shared), None)
        return held if found is None else _unpack(digest, found)

    def named(self, digest: Digest) -> Iterator[Holding]:
        """What the peer says that the blob is, for whomever."""
        key = key_of(digest)
        for packed in filter(None, (self.blobs.get(key), *self.shared.get(key, {}).values())):
            yield _unpack(digest, packed)

    def rooted(self, cid: Cid) -> Holding | None:
        """What the peer holds under a root; the one named last where it names several."""
        key = None if self.roots is None else self.roots.get(cid.raw)
        return None if key is None else _unpack(_digest_of(key), self.blobs[key])

    def drop(self, digest: Digest) -> None:
        """Do not believe in this holding any more, until the log names it anew."""
        key = key_of(digest)
        self._let_go(key)
        self._shares -= len(self.shared.pop(key, {}))

    def _let_go(self, key: bytes) -> None:
        """Forget what the peer holds under a digest for everybody who sees the log."""
        packed = self.blobs.pop(key, None)
        if packed is not None and self.roots is not None and self.roots.get(packed[:RAW_LENGTH]) == key:
            del self.roots[packed[:RAW_LENGTH]]

    def _wanted(self, line: Line, now: float) -> bool:
        if isinstance(line, RecordLine):
            return self.proven and _is_late(line, now)
        if isinstance(line, BlobLine | DropLine):
            return True
        if isinstance(line, SharedLine | SharedTagLine) and line.namespace not in self.shares:
            return False
        if isinstance(line, SharedLine):
            return self.proven
        return self.proven and math.isfinite(line.seen_at) and 0 <= line.seen_at <= now + LATEST_S

    def _take(self, change: LogEntry) -> None:
        if isinstance(change, RecordChange):
            return  # merged with this node's own as soon as it counts
        if isinstance(change, TagChange):
            self.tags[(change.seen.repository, change.seen.tag)] = change.seen
        elif isinstance(change, SharedChange):
            self._take_shared(change)
        elif change.holding is None or (change.holding.visibility is not Visibility.PUBLIC and not self.proven):
            self._let_go(key_of(change.digest))
        else:
            key = key_of(change.digest)
            self._let_go(key)  # it may have had another CID
            self.blobs[key] = _pack(change.holding)
            if self.roots is not None:
                self.roots[change.holding.cid.raw] = key

    def _take_shared(self, change: SharedChange) -> None:
        key = key_of(change.digest)
        lent = self.shared.setdefault(key, {})
        before = len(lent)
        if change.holding is not None:
            lent[change.repository] = _pack(change.holding)
        else:
            lent.pop(change.repository, None)
        self._shares += len(lent) - before
        if not lent:
            del self.shared[key]


def key_of(digest: Digest) -> bytes:
    """A short name of a digest: the hash itself; the lengths of the algorithms differ."""
    return bytes.fromhex(digest.hex)


def _digest_of(key: bytes) -> Digest:
    return Digest(Algorithm.SHA256 if len(key) == 32 else Algorithm.SHA512, key.hex())


def line_key(line: Line) -> str:
    """What a later line about the same thing replaces."""
    if isinstance(line, BlobLine | DropLine):
        return line.digest
    if isinstance(line, RecordLine):
        return f"record {line.repository}/{line.kind}/{line.name}"
    if isinstance(line, SharedLine):
        return f"{line.namespace}/{line.repository}@{line.digest}"
    return f"{line.namespace}/{line.repository}:{line.tag}"


def _is_late(line: RecordLine, now: float) -> bool:
    return line.stamp > stamp_at(now + LATEST_S)


def _check_order(page: LogPage, start: int) -> None:
    before = start
    for line in page.lines:
        if line.seq <= before:
            raise InvalidError("log: the lines are not in the order of their numbers")
        before = line.seq
    if page.upto < before or (page.more and page.upto <= start):
        raise InvalidError("log: it says that it goes up to a number before its last line")


_MARKS: Final = (Visibility.MEMBERS, Visibility.PUBLIC, Visibility.SHARED)


def _pack(holding: Holding) -> bytes:
    return holding.cid.raw + bytes((_MARKS.index(holding.visibility),)) + holding.size.to_bytes(8, "big")


def _unpack(digest: Digest, packed: bytes) -> Holding:
    return Holding(digest, Cid(packed[:36]), int.from_bytes(packed[37:], "big"), _MARKS[packed[36]])
