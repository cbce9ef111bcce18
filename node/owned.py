"""The cluster's own repositories (OCI distribution specification 1.1, "Push", "Content Discovery" and "Content
Management"): records in the catalog's database, merged with those of the other members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from node.connection import Query, Row, Transaction
from node.database import Database
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.holding import digest_of, key_of
from node.manifest import Descriptor, Manifest, Role
from node.records import TOMBSTONE_S, Content, Kind, Record, stamp_at
from node.reference import Tag
from node.remembered import Remembered
from node.workers import Pulse

_KEPT_IN_MEMORY: Final = 8192
_WRITTEN: Final = "repository, kind, name, digest, size, media_type, artifact_type, subject, stamp, origin, base"
_COLUMNS: Final = f"{_WRITTEN}, rival, rival_origin, rival_stamp"
_ALIVE: Final = (
    "tag.repository = :repository AND tag.kind = 'tag' AND EXISTS (SELECT 1 FROM records AS manifest"
    " WHERE manifest.repository = tag.repository AND manifest.kind = 'manifest' AND manifest.digest = tag.digest)"
)
"""A tag whose manifest was deleted elsewhere meanwhile means nothing."""
_log: Final = structlog.get_logger(__name__)


class MissingError(NotFoundError):
    """A manifest names what its repository does not have."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A tag that two nodes gave different meanings at once: the one that counts, and the one that lost."""

    repository: str
    tag: str
    digest: Digest | None
    origin: str
    rival: Digest | None
    rival_origin: str


class Owned:
    """Own repositories by name. Whoever is told that something was written finds it again after a loss of power."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.generation = 0
        """Grows whenever anything here changes."""
        self.news = Pulse()
        self._database = database
        self._clock = clock
        self._records: Remembered[tuple[int, str, Kind, str], Record | None] = Remembered(_KEPT_IN_MEMORY)

    async def tag(self, repository: str, tag: Tag) -> Content | None:
        """What a tag means; None when it means nothing.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        found = await self._content(repository, Kind.TAG, tag.text)
        return None if found is None else await self.manifest(repository, found.digest)

    async def manifest(self, repository: str, digest: Digest) -> Content | None:
        """A manifest of a repository; None when it has none of that name. Raises as `tag`."""
        return await self._content(repository, Kind.MANIFEST, str(digest))

    async def blob(self, repository: str, digest: Digest) -> Content | None:
        """A blob or manifest of a repository; None when it is none of its. Raises as `tag`."""
        return await self._content(repository, Kind.BLOB, str(digest)) or await self.manifest(repository, digest)

    async def exists(self, repository: str) -> bool:
        """Whether anything is, or until lately was, in a repository. Raises as `tag`."""
        return bool(await self._database.read("SELECT 1 FROM records WHERE repository = ? LIMIT 1", (repository,)))

    async def tags(self, repository: str, after: str = "", limit: int = -1) -> tuple[str, ...]:
        """The tags behind `after` in the order of their bytes, at most `limit` (all when negative). Raises as `tag`."""
        rows = await self._database.read(
            f"SELECT name FROM records AS tag WHERE {_ALIVE} AND name > :after ORDER BY name LIMIT :limit",
            {"repository": repository, "after": after, "limit": limit},
        )
        return tuple(str(name) for (name,) in rows)

    async def repositories(self, after: str = "", limit: int = -1) -> tuple[str, ...]:
        """The repositories that have something, in the order of their names, as `tags`."""
        rows = await self._database.read(  # from name to name: a repository has a million records
            "WITH RECURSIVE known (which) AS (SELECT min(repository) FROM records WHERE repository > ? UNION ALL"
            " SELECT (SELECT min(repository) FROM records WHERE repository > which) FROM known WHERE which NOT NULL)"
            " SELECT which FROM known WHERE EXISTS"
            " (SELECT 1 FROM records WHERE repository = which AND digest IS NOT NULL) LIMIT ?",
            (after, limit),
        )
        return tuple(str(name) for (name,) in rows)

    async def referrers(self, repository: str, subject: Digest) -> tuple[Content, ...]:
        """The manifests of a repository whose subject is `subject`, in the order of their digests. Raises as `tag`."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM records WHERE subject = ? AND repository = ? AND kind = 'manifest'"
            " AND digest IS NOT NULL ORDER BY name",
            (key_of(subject), repository),
        )
        return tuple(content for row in rows if (content := _record(row).content) is not None)

    async def having(self, digest: Digest) -> tuple[str, ...]:
        """The repositories that a blob belongs to. Raises as `tag`."""
        rows = await self._database.read(
            "SELECT DISTINCT repository FROM records WHERE digest = ? AND kind != 'tag' ORDER BY repository",
            (key_of(digest),),
        )
        return tuple(str(name) for (name,) in rows)

    async def page(self, after: int, limit: int = 1000) -> tuple[tuple[Record, ...], int | None]:
        """What there is now, some at a time, blobs' records before those that name them; and from where to go on.

        Raises as `tag`.
        """
        rows = await self._database.read(
            f"SELECT {_COLUMNS}, seq FROM records WHERE seq > ? AND digest IS NOT NULL ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return tuple(_record(row) for row in rows), int(rows[-1][-1]) if len(rows) == limit else None

    async def restore(self, records: Sequence[Record]) -> int:
        """Enter what a backup says as if it were pushed now; how much of it was not so already.

        Raises:
            FullError: when the catalog cannot be written.
        """
        news: list[Record] = []
        await self._write(lambda edit: news.extend(record for record in records if edit.restore(record)))
        return len(news)

    async def conflicts(self) -> tuple[Conflict, ...]:
        """The tags that were written by two nodes at once, until they are written again. Raises as `tag`."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM records WHERE rival_origin IS NOT NULL AND rival IS NOT digest"
            " ORDER BY repository, name"
        )
        return tuple(_conflict(row) for row in rows)

    async def add_blob(self, repository: str, digest: Digest, size: int) -> None:
        """The blob belongs to the repository.

        Raises:
            FullError: when the catalog cannot be written.
        """
        await self._write(lambda edit: edit.put(repository, Kind.BLOB, str(digest), Content(digest, size)))

    async def push(self, repository: str, manifest: Manifest, tags: Sequence[Tag] = ()) -> None:
        """Enter a manifest, whose bytes are here, and let the tags mean it; all or nothing.

        Raises:
            MissingError: when it names something that the repository does not have.
            InvalidError: when it gives a blob another size than it has.
            FullError: when the catalog cannot be written.
        """
        content = Content(
            manifest.digest, len(manifest.data), manifest.media_type, manifest.artifact_type, manifest.subject
        )

        def job(edit: "_Edit") -> None:
            for each in manifest.names:
                edit.require(repository, each)
            edit.put(repository, Kind.MANIFEST, str(manifest.digest), content)
            for tag in tags:
                edit.put(repository, Kind.TAG, tag.text, replace(content, artifact_type="", subject=None))

        await self._write(job)

    async def delete_tag(self, repository: str, tag: Tag) -> None:
        """Let a tag mean nothing any more.

        Raises:
            NotFoundError: when it means nothing now.
            FullError: when the catalog cannot be written.
        """
        await self._write(lambda edit: edit.remove(repository, Kind.TAG, tag.text))

    async def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Delete a manifest and the tags that mean it. Raises as `delete_tag`."""

        def job(edit: "_Edit") -> None:
            edit.remove(repository, Kind.MANIFEST, str(digest))
            for tag in edit.tags_of(repository, digest):
                edit.remove(repository, Kind.TAG, tag)

        await self._write(job)

    async def delete_blob(self, repository: str, digest: Digest) -> None:
        """Let a blob belong to the repository no longer. Raises as `delete_tag`."""
        await self._write(lambda edit: edit.remove(repository, Kind.BLOB, str(digest)))

    async def merge(self, records: Sequence[Record]) -> int:
        """Take in what another member wrote or passed on; how many of it were news.

        Raises:
            FullError: when the catalog cannot be written.
        """
        if not records:
            return 0
        news: list[Record] = []
        await self._write(lambda edit: news.extend(record for record in records if edit.merge(record)), durable=False)
        return len(news)

    async def purge(self) -> None:
        """Forget deletions that everybody knows of by now.

        Raises:
            FullError: when the catalog cannot be written.
        """
        before = _forgotten(self._clock())

        def job(transaction: Transaction) -> None:  # the log's last number stays, else it would be given again
            sql = "DELETE FROM records WHERE digest IS NULL AND stamp < ? AND seq < ?"
            transaction.run(sql, (before, transaction.seq))

        await self._database.write(job)

    async def _content(self, repository: str, kind: Kind, name: str) -> Content | None:
        key = (self._database.epoch, repository, kind, name)
        record = await self._records.of(key, lambda: self._database.ask(partial(_find, repository, kind, name)))
        return record.content if record else None

    async def _write(self, job: Callable[["_Edit"], None], *, durable: bool = True) -> None:
        node_id, now = self._database.meta["node_id"], self._clock()

        def run(transaction: Transaction) -> None:
            edit = _Edit(transaction, node_id, now)
            job(edit)
            if edit.written:
                transaction.afterwards.append(lambda: self._changed(edit.written))

        await self._database.write(run, durable=durable)

    async def _changed(self, written: Sequence[Record]) -> None:
        self.generation += 1
        epoch = self._database.epoch  # of the database that it was written to in the end
        self._records.forget([(epoch, record.repository, record.kind, record.name) for record in written])
        self.news.beat()


class _Edit:
    """One transaction's work on the records, in the writer's thread."""

    def __init__(self, transaction: Transaction, node_id: str, now: float) -> None:
        self.written: list[Record] = []
        self._transaction = transaction
        self._node_id = node_id
        self._forgotten = _forgotten(now)
        ((last,),) = transaction.rows("SELECT ifnull(max(stamp), 0) FROM records")
        self._stamp = stamp_at(now, last)

    def put(self, repository: str, kind: Kind, name: str, content: Content) -> None:
        """Write what this node's client says now."""
        self._write(repository, kind, name, content)

    def restore(self, record: Record) -> bool:
        """Write what a backup says, unless it holds already; whether it was written."""
        held = _find(record.repository, record.kind, record.name, self._transaction)
        if held is not None and held.content == record.content:
            return False
        self._write(record.repository, record.kind, record.name, record.content)
        return True

    def remove(self, repository: str, kind: Kind, name: str) -> None:
        """Delete what is there.

        Raises:
            NotFoundError: when nothing is.
        """
        record = _find(repository, kind, name, self._transaction)
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
            record = _find(repository, kind, str(named.digest), self._transaction)
            if record is not None and record.content is not None:
                if record.content.size != named.size:
                    raise InvalidError(
                        f"{named.digest}: the manifest says {named.size} bytes, it has {record.content.size}"
                    )
                return
        raise MissingError(f"{named.digest}: the manifest names it, but {repository} does not have it: push it first")

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
            self._insert(record)
            return True
        held = _record(row)
        if record.supersedes(held):
            self._insert(record)
            if not record.knew(held):
                self._note_rival(record, held)
            return True
        if held.supersedes(record) and not held.knew(record):
            rival_origin, rival_stamp = row[12:14]
            if rival_origin is None or (record.stamp, record.origin) > (rival_stamp, rival_origin):
                self._note_rival(held, record)
        return False

    def _write(self, repository: str, kind: Kind, name: str, content: Content | None) -> None:
        held = _find(repository, kind, name, self._transaction)
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
            f"INSERT OR REPLACE INTO records ({_WRITTEN}, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                self._transaction.next_seq(),
            ),
        )
        self.written.append(record)


def read_records(query: Query, since: int, upto: int, limit: int) -> list[tuple[int, Record]]:
    """The records that were written or merged after `since`, in that order, with their numbers in the log."""
    rows = query.rows(
        f"SELECT {_COLUMNS}, seq FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (since, upto, limit)
    )
    return [(int(row[-1]), _record(row)) for row in rows]


def _find(repository: str, kind: Kind, name: str, query: Query) -> Record | None:
    row = _row(repository, kind, name, query)
    return None if row is None else _record(row)


def _row(repository: str, kind: Kind, name: str, query: Query) -> Row | None:
    sql = f"SELECT {_COLUMNS} FROM records WHERE repository = ? AND kind = ? AND name = ?"
    return query.row(sql, (repository, kind, name))


def _forgotten(now: float) -> int:
    """Deletions with an earlier stamp than this are remembered no longer."""
    return stamp_at(now - TOMBSTONE_S)


def _record(row: Row) -> Record:
    repository, kind, name, digest, size, media_type, artifact_type, subject, stamp, origin, base = row[:11]
    content = None
    if digest is not None:
        about = digest_of(subject) if subject is not None else None
        content = Content(digest_of(digest), size, media_type, artifact_type, about)
    return Record(repository, Kind(kind), name, content, stamp, origin, base)


def _conflict(row: Row) -> Conflict:
    record, rival, rival_origin = _record(row), row[11], row[12]
    digest = record.content.digest if record.content else None
    return Conflict(
        record.repository, record.name, digest, record.origin, digest_of(rival) if rival else None, rival_origin
    )
