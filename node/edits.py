"""Reading and writing the records of own repositories, within one transaction of the catalog's database."""

from typing import Final

import structlog

from node.announcing import show
from node.connection import Query, Row, Transaction
from node.digest import Digest
from node.errors import FullError, InvalidError, NotFoundError
from node.holding import digest_of, key_of
from node.manifest import Descriptor, Role
from node.records import RESTORED, TOMBSTONE_S, Content, Kind, Record, stamp_at
from node.reference import OWN
from node.visibility import FOREVER, Shown

_WRITTEN: Final = "repository, kind, name, digest, size, media_type, artifact_type, subject, stamp, origin, base"
COLUMNS: Final = f"{_WRITTEN}, rival, rival_origin, rival_stamp"
_log: Final = structlog.get_logger(__name__)


class MissingError(NotFoundError):
    """A manifest names what its repository does not have."""


class Edit:
    """One transaction's work on the records, in the writer's thread."""

    def __init__(self, transaction: Transaction, node_id: str, now: float, told_by: str = "") -> None:
        self.written: list[Record] = []
        self._transaction = transaction
        self._node_id = node_id
        self._now = now
        self._told_by = told_by
        self._forgotten = forgotten_before(now)
        ((last,),) = transaction.rows("SELECT ifnull(max(stamp), 0) FROM records")
        self._stamp = stamp_at(now, last)

    def put(self, repository: str, kind: Kind, name: str, content: Content) -> None:
        """Write what this node's client says now; members may have the bytes, if they were pushed here."""
        self._write(repository, kind, name, content)
        self._share(repository, content.digest)

    def restore(self, record: Record) -> bool:
        """Write what a backup says, unless it holds already; whether it was written."""
        held = find(record.repository, record.kind, record.name, self._transaction)
        if held is not None and held.content == record.content:
            return False
        self._write(record.repository, record.kind, record.name, record.content)
        if record.content is not None:
            self._share(record.repository, record.content.digest)
        return True

    def remove(self, repository: str, kind: Kind, name: str) -> None:
        """Delete what is there.

        Raises:
            NotFoundError: when nothing is.
        """
        record = find(repository, kind, name, self._transaction)
        if record is None or record.content is None:
            raise NotFoundError(f"{repository}: no {kind} {name}")
        self._write(repository, kind, name, None)

    def require(self, repository: str, named: Descriptor) -> None:
        """Check that the repository has what a manifest names.

        Raises:
            MissingError: when it does not.
            InvalidError: when it has another size.
        """
        if not named.distributable:
            return
        kinds = (Kind.MANIFEST,) if named.role is Role.MANIFEST else (Kind.BLOB, Kind.MANIFEST)
        for kind in kinds:
            record = find(repository, kind, str(named.digest), self._transaction)
            if record is not None and record.content is not None:
                if record.content.size != named.size:
                    raise InvalidError(
                        f"{named.digest}: the manifest says {named.size} bytes, it has {record.content.size}"
                    )
                return
        raise MissingError(f"{named.digest}: the manifest names it, but {repository} does not have it: push it first")

    def bound(self, most: int, before: int | None) -> int:
        """Check that the member who told of what was merged makes this node keep no more than `most` records.

        `before` is how many they were at most, None when nobody knows. Returns how many they are at most now: counting
        takes a while, and is put off for as long as the sum says enough.

        Raises:
            FullError: when they are more.
        """
        if before is not None and before + len(self.written) <= most:
            return before + len(self.written)
        sql = "SELECT count(*) FROM records WHERE told_by = ? AND told_by != ''"
        ((kept,),) = self._transaction.rows(sql, (self._told_by,))
        if kept > most:
            raise FullError(f"more than {most} records that one member told of")
        return int(kept)

    def tags_of(self, repository: str, digest: Digest) -> list[str]:
        """The tags that mean a manifest."""
        sql = "SELECT name FROM records WHERE digest = ? AND kind = 'tag' AND repository = ?"
        return [str(name) for (name,) in self._transaction.rows(sql, (key_of(digest), repository))]

    def merge(self, record: Record) -> bool:
        """Keep somebody's record unless a later one is here; whether it was news.

        A rival, kept for people to see, is the latest that the writer of what counts had not seen: whatever the order
        in which records come, every member that gets all of them ends with the same two.
        """
        row = _row(record.repository, record.kind, record.name, self._transaction)
        if row is None:
            if record.content is None and record.stamp < self._forgotten:
                return False  # everybody forgot it: it would only be told on and on
            self._take(record)
            return True
        held = record_of(row)
        if record.supersedes(held):
            self._take(record)
            if not record.knew(held):
                self._note_rival(record, held)
            return True
        if held.supersedes(record) and not held.knew(record):
            rival_origin, rival_stamp = row[12:14]
            if rival_origin is None or (record.stamp, record.origin) > (rival_stamp, rival_origin):
                self._note_rival(held, record)
        return False

    def _take(self, record: Record) -> None:
        """Enter somebody's record; its bytes may have come here for it before, such as where the catalog was lost."""
        self._insert(record)
        if record.content is not None:
            self._share(record.repository, record.content.digest)

    def _share(self, repository: str, digest: Digest) -> None:
        """Show members a blob whose bytes came for this repository: behind its record, so that they know whose it is.

        What is here for another reason stays as it is: a record is only a claim.
        """
        sql = (
            "SELECT 1 FROM fetched JOIN repositories ON id = fetched.repository"
            " WHERE namespace = ? AND name IN (?, ?) AND digest = ?"
        )
        key = key_of(digest)
        if self._transaction.row(sql, (OWN, repository, RESTORED, key)):
            show(self._transaction, key, Shown(members_until=FOREVER), self._now)

    def _write(self, repository: str, kind: Kind, name: str, content: Content | None) -> None:
        held = find(repository, kind, name, self._transaction)
        base = held.stamp if held else 0
        self._insert(Record(repository, kind, name, content, self._stamp, self._node_id, base))

    def _note_rival(self, record: Record, rival: Record) -> None:
        if record.kind is not Kind.TAG:
            return  # what a digest names is the same whoever wrote it
        if record.content != rival.content:
            _log.warning("tag written twice at once", repository=record.repository, tag=record.name)
        self._transaction.run(
            "UPDATE records SET rival = ?, rival_origin = ?, rival_stamp = ?"
            " WHERE repository = ? AND kind = ? AND name = ?",
            (
                key_of(rival.content.digest) if rival.content else None,
                rival.origin,
                rival.stamp,
                record.repository,
                record.kind,
                record.name,
            ),
        )

    def _insert(self, record: Record) -> None:
        content = record.content
        self._transaction.run(
            f"INSERT OR REPLACE INTO records ({_WRITTEN}, told_by, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.repository,
                record.kind,
                record.name,
                key_of(content.digest) if content else None,
                content.size if content else 0,
                content.media_type if content else "",
                content.artifact_type if content else "",
                key_of(content.subject) if content and content.subject else None,
                record.stamp,
                record.origin,
                record.base,
                self._told_by,
                self._transaction.next_seq(),
            ),
        )
        self.written.append(record)


def read_records(query: Query, since: int, upto: int, limit: int) -> list[tuple[int, Record]]:
    """The records that were written or merged after `since`, in that order, with their numbers in the log."""
    rows = query.rows(
        f"SELECT {COLUMNS}, seq FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (since, upto, limit)
    )
    return [(int(row[-1]), record_of(row)) for row in rows]


def find(repository: str, kind: Kind, name: str, query: Query) -> Record | None:
    """The record about a thing; None when there is none."""
    row = _row(repository, kind, name, query)
    return None if row is None else record_of(row)


def known(digest: Digest, query: Query) -> bool:
    """Whether a blob or manifest belongs to some repository, or lately did: its deletion is remembered as well."""
    return query.row("SELECT 1 FROM records WHERE name = ? AND kind != 'tag' LIMIT 1", (str(digest),)) is not None


def recorded(repository: str | None, digest: Digest, query: Query) -> bool:
    """Whether a blob or manifest belongs to a repository, or with None to any."""
    where, values = ("", ()) if repository is None else (" AND repository = ?", (repository,))
    sql = f"SELECT 1 FROM records WHERE name = ? AND kind != 'tag' AND digest IS NOT NULL{where} LIMIT 1"
    return query.row(sql, (str(digest), *values)) is not None


def _row(repository: str, kind: Kind, name: str, query: Query) -> Row | None:
    sql = f"SELECT {COLUMNS} FROM records WHERE repository = ? AND kind = ? AND name = ?"
    return query.row(sql, (repository, kind, name))


def forgotten_before(now: float) -> int:
    """Deletions with an earlier stamp than this are remembered no longer."""
    return stamp_at(now - TOMBSTONE_S)


def record_of(row: Row) -> Record:
    """A row of `COLUMNS`."""
    repository, kind, name, digest, size, media_type, artifact_type, subject, stamp, origin, base = row[:11]
    content = None
    if digest is not None:
        about = digest_of(subject) if subject is not None else None
        content = Content(digest_of(digest), size, media_type, artifact_type, about)
    return Record(repository, Kind(kind), name, content, stamp, origin, base)
