"""What can still be read of a catalog that broke: the own repositories' records, which nothing else on this disk says.

A damaged `catalog.db` is kept as `catalog.db.damaged` until what it has is in the new one, and then as
`catalog.db.salvaged`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from node.edits import record_of
from node.reference import OWN

SIDE_FILES: Final = ("-wal", "-shm")
_KEY: Final = ("repository", "kind", "name")
_GIVEN: Final = "SELECT name, digest FROM fetched JOIN repositories ON id = repository WHERE namespace = ?"


def set_aside(path: Path) -> None:
    """Out of the way, with what was written last and is not in the file itself yet."""
    aside = _aside(path)
    if path.exists():
        for suffix in SIDE_FILES:
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # first: a log without its file would be removed
            path.with_name(f"{path.name}-wal").replace(aside.with_name(f"{aside.name}-wal"))
        path.replace(aside)


def salvage(path: Path, connection: sqlite3.Connection) -> str | None:
    """Take over what can be read, within a transaction that is open; the id of the node, if that can be."""
    aside = _aside(path)
    if not aside.exists():
        return None
    node_id = None
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=rw", uri=True)) as old:
        with suppress(sqlite3.Error):
            found = old.execute("SELECT value FROM meta WHERE name = 'node_id'").fetchone()
            node_id = str(found[0]) if found else None
        _take_records(old, connection)
        with suppress(sqlite3.Error):
            for name, digest in old.execute(_GIVEN, (OWN,)):
                connection.execute("INSERT OR IGNORE INTO repositories (namespace, name) VALUES (?, ?)", (OWN, name))
                sql = "INSERT OR IGNORE INTO fetched SELECT id, ?, 0 FROM repositories WHERE namespace = ? AND name = ?"
                connection.execute(sql, (digest, OWN, name))
    return node_id


def salvaged(path: Path) -> None:
    """All that could be read is in the new one for good."""
    aside = _aside(path)
    for suffix in ("", *SIDE_FILES):
        with suppress(FileNotFoundError):
            aside.with_name(aside.name + suffix).replace(path.with_name(f"{path.name}.salvaged{suffix}"))


def _take_records(old: sqlite3.Connection, connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # one of an older version has fewer columns
        columns = [name for name in _columns(connection) if name in _columns(old)]
        _take_columns(old, connection, columns)


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [str(row[1]) for row in connection.execute("PRAGMA table_info(records)")]


def _take_columns(old: sqlite3.Connection, connection: sqlite3.Connection, columns: list[str]) -> None:
    names = ", ".join(columns)
    sql = f"INSERT OR IGNORE INTO records ({names}) VALUES ({', '.join('?' * len(columns))})"
    for row in _readable(old, names):
        with suppress(ValueError, KeyError, TypeError, IndexError, sqlite3.Error):
            record_of(row)  # else it would break whoever reads it later
            connection.execute(sql, row)


def _readable(old: sqlite3.Connection, columns: str) -> Iterator[Any]:
    """The rows in the order of their keys and of their numbers, from both ends: what is bad is met from four sides."""
    for key in (_KEY, ("seq",)):
        for direction in ("", " DESC"):
            order = ", ".join(f"{each}{direction}" for each in key)
            with suppress(sqlite3.Error):
                yield from old.execute(f"SELECT {columns} FROM records ORDER BY {order}")


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")
