"""The cluster's own repositories (OCI distribution specification 1.1, "Push", "Content Discovery" and "Content
Management"): records in the catalog's database, merged with those of the other members.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from node.announcing import withdraw
from node.connection import Row, Transaction
from node.database import Database
from node.digest import Digest
from node.edits import COLUMNS, Edit, find, forgotten_before, known, record_of
from node.edits import MissingError as MissingError
from node.holding import digest_of, key_of
from node.manifest import Manifest
from node.records import Content, Kind, Record
from node.reference import Tag
from node.remembered import Remembered
from node.workers import Pulse

_KEPT_IN_MEMORY: Final = 8192
_ALIVE: Final = (
    "tag.repository = :repository AND tag.kind = 'tag' AND EXISTS (SELECT 1 FROM records AS manifest"
    " WHERE manifest.repository = tag.repository AND manifest.kind = 'manifest' AND manifest.digest = tag.digest)"
)
"""A tag whose manifest was deleted elsewhere meanwhile means nothing."""


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
        self._told: dict[str, int] = {}
        """How many records each member made this node keep, at most; for the writer's thread alone."""
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
            f"SELECT {COLUMNS} FROM records WHERE subject = ? AND repository = ? AND kind = 'manifest'"
            " AND digest IS NOT NULL ORDER BY name",
            (key_of(subject), repository),
        )
        return tuple(content for row in rows if (content := record_of(row).content) is not None)

    async def manifests(self, repository: str, after: str = "", limit: int = -1) -> tuple[Content, ...]:
        """The manifests of a repository whose digests, as text, are behind `after`, in that order; as `tags`."""
        rows = await self._database.read(
            f"SELECT {COLUMNS} FROM records WHERE repository = ? AND kind = 'manifest' AND name > ?"
            " AND digest IS NOT NULL ORDER BY name LIMIT ?",
            (repository, after, limit),
        )
        return tuple(content for row in rows if (content := record_of(row).content) is not None)

    async def lacking(self, repository: str, digests: Collection[Digest]) -> set[Digest]:
        """Those that are no blobs or manifests of a repository. Raises as `tag`."""
        marks = ", ".join("?" * len(digests))
        rows = await self._database.read(
            f"SELECT name FROM records WHERE repository = ? AND kind IN ('blob', 'manifest') AND name IN ({marks})"
            " AND digest IS NOT NULL",
            (repository, *map(str, digests)),
        )
        return set(digests) - {Digest.parse(name) for (name,) in rows}

    async def having(self, digest: Digest) -> tuple[str, ...]:
        """The repositories that a blob belongs to. Raises as `tag`."""
        rows = await self._database.read(
            "SELECT DISTINCT repository FROM records WHERE digest = ? AND kind != 'tag' ORDER BY repository",
            (key_of(digest),),
        )
        return tuple(str(name) for (name,) in rows)

    async def knows(self, digest: Digest) -> bool:
        """Whether a blob or manifest belongs to some repository, or lately did. Raises as `tag`."""
        return await self._database.ask(partial(known, digest))

    async def page(self, after: int, limit: int = 1000) -> tuple[tuple[Record, ...], int | None]:
        """What there is now, some at a time, blobs' records before those that name them; and from where to go on.

        Raises as `tag`.
        """
        rows = await self._database.read(
            f"SELECT {COLUMNS}, seq FROM records WHERE seq > ? AND digest IS NOT NULL ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return tuple(record_of(row) for row in rows), int(rows[-1][-1]) if len(rows) == limit else None

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
            f"SELECT {COLUMNS} FROM records WHERE rival_origin IS NOT NULL AND rival IS NOT digest"
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

        def job(edit: Edit) -> None:
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

        def job(edit: Edit) -> None:
            edit.remove(repository, Kind.MANIFEST, str(digest))
            for tag in edit.tags_of(repository, digest):
                edit.remove(repository, Kind.TAG, tag)

        await self._write(job)

    async def delete_blob(self, repository: str, digest: Digest) -> None:
        """Let a blob belong to the repository no longer. Raises as `delete_tag`."""
        await self._write(lambda edit: edit.remove(repository, Kind.BLOB, str(digest)))

    async def merge(self, records: Sequence[Record], told_by: str = "", most: int = 0) -> int:
        """Take in what the member `told_by` wrote or passed on; how many of it were news.

        Raises:
            FullError: when the catalog cannot be written, or would hold more than `most` that it told of.
        """
        if not records:
            return 0
        news: list[Record] = []

        def job(edit: Edit) -> None:
            news.extend(record for record in records if edit.merge(record))
            self._told[told_by] = edit.bound(most, self._told.get(told_by))

        await self._write(job, told_by, durable=False)
        return len(news)

    async def purge(self) -> None:
        """Forget deletions that everybody knows of by now, and show members nothing of what belongs nowhere since.

        Raises:
            FullError: when the catalog cannot be written.
        """
        now = self._clock()
        before = forgotten_before(now)

        def job(transaction: Transaction) -> None:  # the log's last number stays, else it would be given again
            sql = "DELETE FROM records WHERE digest IS NULL AND stamp < ? AND seq < ? RETURNING kind, name"
            rows = transaction.rows(sql, (before, transaction.seq))
            for digest in {Digest.parse(name) for kind, name in rows if kind != Kind.TAG}:
                if not known(digest, transaction):
                    withdraw(transaction, key_of(digest), now)

        await self._database.write(job)

    async def _content(self, repository: str, kind: Kind, name: str) -> Content | None:
        key = (self._database.epoch, repository, kind, name)
        record = await self._records.of(key, lambda: self._database.ask(partial(find, repository, kind, name)))
        return record.content if record else None

    async def _write(self, job: Callable[[Edit], None], told_by: str = "", *, durable: bool = True) -> None:
        node_id, now = self._database.meta["node_id"], self._clock()

        def run(transaction: Transaction) -> None:
            edit = Edit(transaction, node_id, now, told_by)
            job(edit)
            if edit.written:
                transaction.afterwards.append(lambda: self._changed(edit.written))

        await self._database.write(run, durable=durable)

    async def _changed(self, written: Sequence[Record]) -> None:
        self.generation += 1
        epoch = self._database.epoch  # of the database that it was written to in the end
        self._records.forget([(epoch, record.repository, record.kind, record.name) for record in written])
        self.news.beat()


def _conflict(row: Row) -> Conflict:
    record, rival, rival_origin = record_of(row), row[11], row[12]
    digest = record.content.digest if record.content else None
    return Conflict(
        record.repository, record.name, digest, record.origin, digest_of(rival) if rival else None, rival_origin
    )
