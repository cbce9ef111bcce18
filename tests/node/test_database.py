"""Jobs on the database: whole or not at all, in order, in a thread of their own."""

import sqlite3
import threading
from pathlib import Path

import pytest

from node.catalog import Audience
from node.connection import Transaction
from node.digest import Digest
from node.errors import FullError, UnreachableError
from node.store import Store, open_store

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


def say(transaction: Transaction, name: str, value: str) -> None:
    transaction.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


async def said(store: Store, name: str) -> list[str]:
    rows = await store._shelf.database.read("SELECT value FROM meta WHERE name = ?", (name,))
    return [str(row[0]) for row in rows]


async def test_jobs_run_in_the_order_they_were_asked_for_in_one_thread_that_is_not_the_loops(store: Store) -> None:
    threads: list[int] = []

    def job(transaction: Transaction) -> None:
        threads.append(threading.get_ident())
        say(transaction, "last", str(len(threads)))

    for _ in range(5):
        await store._shelf.database.write(job)
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
    assert await said(store, "last") == ["5"]


async def test_a_job_that_fails_changes_nothing_and_undoes_what_it_did_besides(store: Store) -> None:
    undone: list[str] = []
    after: list[str] = []

    async def afterwards() -> None:
        after.append("?")

    def job(transaction: Transaction) -> None:
        say(transaction, "half", "done")
        transaction.next_seq()
        transaction.undo.append(lambda: undone.append("file"))
        transaction.afterwards.append(afterwards)
        raise OSError("the disk is gone")

    database = store._shelf.database
    before = database.seq
    with pytest.raises(OSError, match="the disk is gone"):
        await database.write(job)
    assert (undone, after, database.seq) == (["file"], [], before)
    await database.remember("next", "job")
    assert (await said(store, "half"), await said(store, "next")) == ([], ["job"])


async def test_only_a_durable_job_waits_for_the_disk_itself(store: Store) -> None:
    def level(transaction: Transaction) -> object:
        return transaction.rows("PRAGMA synchronous")[0][0]

    database = store._shelf.database
    levels = [await database.write(level, durable=durable) for durable in (False, True, False)]
    assert levels == [1, 2, 1]  # NORMAL, FULL


async def test_a_blob_whose_row_cannot_be_written_leaves_no_file(store: Store) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store._catalog._insert = full  # type: ignore[assignment,method-assign]
    with pytest.raises(FullError, match="disk is full"):
        await store.put(DIGEST, DATA)
    assert await store.find(DIGEST) is None
    assert [each for part in ("blobs", "incoming") for each in (store.folder / part).rglob("*") if each.is_file()] == []


async def test_a_store_that_was_closed_says_so(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA)
    with pytest.raises(UnreachableError, match="closed"):
        await store.changes(0, Audience.PUBLIC)
    with pytest.raises(FullError, match="closed"):
        await store.drop(DIGEST)
