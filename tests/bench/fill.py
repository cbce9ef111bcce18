"""Fill a store with many small blobs: by the node's own code, or (most of them) as rows of the catalog alone."""

import argparse
import asyncio
import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from node.digest import Digest
from node.records import Content, Kind, Record
from node.reference import OWN, Repository
from node.schema import SCHEMA
from node.store import Store, open_store

MANY: Final = "bench/many"
"""The own repository that the blobs belong to, if they are to belong to any."""
FILES: Final = 1000
"""So many of an own repository's blobs are real; the others are rows of the catalog, which nobody asks for."""
_NOBODY: Final = Repository("localhost", "fill")
_AT_ONCE: Final = 64
_ROWS: Final = """
CREATE TEMP TABLE hashes AS WITH RECURSIVE numbers (number) AS
    (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count)
    SELECT randomblob(32) AS hash FROM numbers;
CREATE TEMP TABLE more AS SELECT CAST(x'12' || hash AS BLOB) AS digest FROM hashes ORDER BY hash;
INSERT INTO blobs (digest, cid, size, public_until, members_until, mtime_ns, inode, durable, verified_at)
    SELECT digest, CAST(x'01551220' || substr(digest, 2) AS BLOB), 20, 0, 9e999, 1, 1, 1, 9e999 FROM more;
INSERT INTO changes (seq, digest, level, highest) SELECT :seq + 2 * rowid, digest, 1, 1 FROM more;
INSERT INTO records (repository, kind, name, digest, size, media_type, artifact_type, stamp, origin, base, seq)
    SELECT :repository, 'blob', 'sha256:' || lower(hex(substr(digest, 2))), digest, 20, '', '', 1, :origin, 0,
    :seq + 2 * rowid + 1 FROM more;
"""
"""What a push leaves in each of the tables; `verified_at` is never, so that no upkeep looks for the files. In the order
of the digests, so that all indexes grow at their ends."""


def fingerprint() -> str:
    """Changes with the tables; a node opens any store with the same tables."""
    return hashlib.sha256(SCHEMA.encode()).hexdigest()[:12]


def blob(number: int) -> bytes:
    """The bytes of a blob."""
    return f"blob {number}".encode()


async def _fill(folder: Path, count: int) -> None:
    async with open_store(folder) as store:
        await _put_all(store, count)


async def _put_all(store: Store, count: int, repository: Repository = _NOBODY) -> None:
    async with asyncio.TaskGroup() as writers:
        for part in range(_AT_ONCE):
            writers.create_task(_put(store, range(part, count, _AT_ONCE), repository))


async def _put(store: Store, numbers: Iterable[int], repository: Repository) -> None:
    for number in numbers:
        data = blob(number)
        await store.put(Digest.of(data), data, repository=repository)


async def fill_own(folder: Path, count: int, files: int = FILES) -> None:
    """Make a store with `count` blobs of `MANY`, of which the first `files` are real."""
    async with open_store(folder) as store:
        await _put_all(store, files, Repository(OWN, MANY))
        contents = [Content(Digest.of(data), len(data)) for data in map(blob, range(files))]
        await store.owned.restore([Record(MANY, Kind.BLOB, str(each.digest), each, 0, "") for each in contents])
        origin = store.node_id
    await asyncio.to_thread(_enter, folder / "catalog.db", count - files, origin)


def _enter(catalog: Path, count: int, origin: str) -> None:
    """Enter blobs that have no files."""
    if not count:
        return
    with closing(sqlite3.connect(catalog)) as connection, connection:
        ((last,),) = connection.execute(
            "SELECT max((SELECT max(seq) FROM changes), (SELECT max(seq) FROM records))"
        ).fetchall()
        values = {"count": count, "seq": last, "repository": MANY, "origin": origin}
        connection.execute("PRAGMA cache_size = -1000000")  # indexes that do not fit are read again and again
        for statement in _ROWS.split(";\n"):
            connection.execute(statement, values)


def main() -> None:
    """Fill and end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--own", action="store_true", help=f"as blobs of {MANY}, the first {FILES} of them real")
    options = parser.parse_args()
    asyncio.run((fill_own if options.own else _fill)(options.folder, options.count))


if __name__ == "__main__":
    main()
