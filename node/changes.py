"""The change log: one row for each digest, tag or record, a new number replaces the old row.

Who reads it sees only what was ever shown to his audience: a digest that never was does not show up, not as a drop
either.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from node.announcing import LEVELS
from node.cid import Cid
from node.connection import Query, Row
from node.database import Database
from node.digest import Digest
from node.edits import read_records
from node.holding import Holding, TagSeen, digest_of
from node.records import Record
from node.reference import Repository, Tag
from node.visibility import Audience, Shown

_LOWEST: Final = {Audience.MEMBERS: 1, Audience.PUBLIC: 2}


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
class RecordChange:
    """A record of an own repository, as the log carries it to members."""

    seq: int
    record: Record


LogEntry = Change | TagChange | RecordChange


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of the log, oldest first. Ask again from `upto`; `more` says that there is more already."""

    log_id: str
    entries: tuple[LogEntry, ...]
    upto: int
    more: bool


async def read_log(database: Database, since: int, audience: Audience, limit: int, now: float) -> Changes:
    """The log after `since` as `audience` may see it, at most `limit` entries.

    Raises:
        UnreachableError: when the database cannot be read.
    """
    return await database.ask(partial(_page, database.seq, database.meta["log_id"], since, audience, limit, now))


def _page(head: int, log_id: str, since: int, audience: Audience, limit: int, now: float, query: Query) -> Changes:
    entries: list[LogEntry] = [
        _change(row, audience, now)
        for row in query.rows(
            "SELECT changes.seq, changes.digest, cid, size, public_until, members_until"
            " FROM changes LEFT JOIN blobs ON blobs.digest = changes.digest"
            " WHERE changes.seq > ? AND changes.seq <= ? AND highest >= ? ORDER BY changes.seq LIMIT ?",
            (since, head, _LOWEST[audience], limit + 1),
        )
    ]
    if audience is Audience.MEMBERS:
        entries += _tags(query, since, head, limit, now)
        entries += (RecordChange(*one) for one in read_records(query, max(since, 0), head, limit + 1))
        entries.sort(key=lambda entry: entry.seq)
    more = len(entries) > limit
    page = tuple(entries[:limit])
    return Changes(log_id, page, page[-1].seq if more else head, more)


def _tags(query: Query, since: int, head: int, limit: int, now: float) -> list[LogEntry]:
    rows = query.rows(
        "SELECT tags.seq, namespace, name, tag, tags.digest, tags.media_type, seen_at, tags.size,"
        " lasting FROM tags"
        " JOIN repositories ON repositories.id = tags.repository"
        " JOIN links ON links.repository = tags.repository AND links.digest = tags.digest"
        " WHERE tags.seq > ? AND tags.seq <= ? AND (public_until > ? OR members_until > ?)"
        " ORDER BY tags.seq LIMIT ?",
        (max(since, 0), head, now, now, limit + 1),
    )
    return [
        TagChange(seq, TagSeen(Repository(namespace, name), Tag(tag), digest_of(key), media_type, at, size, bool(kept)))
        for seq, namespace, name, tag, key, media_type, at, size, kept in rows
    ]


def _change(row: Row, audience: Audience, now: float) -> Change:
    seq, key, cid, size, public_until, members_until = row
    digest = digest_of(key)
    if cid is None:
        return Change(seq, digest, None)
    visibility = Shown(public_until, members_until).at(now)
    if LEVELS[visibility] < _LOWEST[audience]:
        return Change(seq, digest, None)
    return Change(seq, digest, Holding(digest, Cid(cid), size, visibility))
