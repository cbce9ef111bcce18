"""Damage on disk: found when it is used or looked for, and never said to be good again."""

import asyncio
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from node.catalog import Audience, Change, Visibility
from node.digest import Digest
from node.errors import NotFoundError, UnreachableError
from node.records import Content, Kind, Record
from node.reference import OWN, Repository
from node.store import Store, open_store
from node.visibility import Proof
from tests.node.contents import ALPINE, MIB, PUBLIC, content, image

DATA = content(2 * MIB)
DIGEST = Digest.of(DATA)


def file_of(store: Store, digest: Digest = DIGEST) -> Path:
    return store.folder / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


def flip(path: Path, *, restore_times: bool) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    if restore_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def read(store: Store) -> bytes:
    async with store.read(DIGEST) as blob:
        return os.pread(blob.fileno(), len(DATA), 0)


async def assert_forgotten(store: Store) -> None:
    assert await store.find(DIGEST) is None
    assert not file_of(store).exists()
    (entry,) = (await store.changes(0, Audience.PUBLIC)).entries
    assert isinstance(entry, Change)
    assert (entry.digest, entry.holding) == (DIGEST, None)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "gone", "a folder"])
async def test_a_damaged_file_is_found_when_it_is_read_and_dropped(store: Store, damage: str) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    path = file_of(store)
    if damage == "flipped":
        flip(path, restore_times=False)
    elif damage == "truncated":
        os.truncate(path, 1000)
    elif damage == "longer":
        os.truncate(path, 3 * MIB)
    else:
        path.unlink()
    with pytest.raises(NotFoundError):
        await read(store)
    await assert_forgotten(store)


async def test_a_dropped_blob_can_be_kept_again(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    file_of(store).unlink()
    with pytest.raises(NotFoundError):
        await read(store)
    await store.put(DIGEST, DATA, PUBLIC)
    assert await read(store) == DATA


async def test_a_file_that_was_only_touched_is_verified_and_stays(store: Store) -> None:
    await store.put(DIGEST, DATA)
    path = file_of(store)
    os.utime(path)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    assert await read(store) == DATA
    assert await read(store) == DATA


async def test_readers_at_once_of_a_touched_file_are_all_served(store: Store) -> None:
    await store.put(DIGEST, DATA)
    os.utime(file_of(store))
    assert await asyncio.gather(*(read(store) for _ in range(8))) == [DATA] * 8


async def test_a_flipped_byte_that_nothing_shows_is_found_by_scrubbing(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    flip(file_of(store), restore_times=True)
    assert await store.scrub_once() == DIGEST
    await assert_forgotten(store)
    assert await store.scrub_once() is None


async def test_a_flipped_byte_in_a_small_blob_is_found_when_it_is_loaded(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    flip(file_of(store), restore_times=True)
    with pytest.raises(NotFoundError):
        await store.load(DIGEST)
    await assert_forgotten(store)


async def test_scrubbing_goes_round(store: Store, clock) -> None:  # type: ignore[no-untyped-def]
    digests = set()
    for at in range(3):
        clock.now += 1
        digests.add((await store.put(Digest.of(bytes([at])), bytes([at]))).digest)
    scrubbed = set()
    for _ in range(3):
        clock.now += 1
        scrubbed.add(await store.scrub_once())
    assert scrubbed == digests


@pytest.mark.parametrize("loss", ["deleted", "garbage", "truncated", "empty"])
async def test_a_lost_catalog_is_made_anew_from_the_files_and_tells_nobody(tmp_path: Path, loss: str) -> None:
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA, PUBLIC)
        log_id = store.log_id
        wrong = file_of(store, Digest.of(b"x"))
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"not x")
    catalog = tmp_path / "catalog.db"
    if loss == "deleted":
        catalog.unlink()
    elif loss == "garbage":
        catalog.write_bytes(content(8192))
    elif loss == "truncated":
        os.truncate(catalog, 5000)
    else:
        os.truncate(catalog, 0)
    async with open_store(tmp_path) as store, asyncio.timeout(20):
        await store.settled()
        holding = await store.find(DIGEST)
        assert holding is not None
        assert holding.visibility is Visibility.PRIVATE
        assert store.log_id != log_id
        assert (await store.changes(0, Audience.MEMBERS)).entries == ()
        assert await read(store) == DATA
        assert await store.dag(DIGEST) is not None
        assert not wrong.exists()
        assert store.stats.blobs == 1


async def test_a_catalog_that_breaks_while_it_is_used_is_made_anew(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for at in range(300):
            await store.put(Digest.of(at.to_bytes(2, "big")), at.to_bytes(2, "big"), PUBLIC)
        await store.put(DIGEST, DATA, PUBLIC)
    with (tmp_path / "catalog.db").open("r+b") as file:
        file.seek(4096)
        file.write(content(40960))
    async with open_store(tmp_path) as store, asyncio.timeout(30):
        before = store.node_id
        await store.repositories.record(ALPINE, image(b"1"), PUBLIC)
        for at in range(300):
            await store.find(Digest.of(at.to_bytes(2, "big")))
        await store.settled()
        assert await read(store) == DATA
        assert store.stats.blobs == 301
        assert store.node_id == before
        assert (tmp_path / "catalog.db.salvaged").exists()


async def test_a_file_without_a_row_is_adopted_after_a_crash(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.repositories.record(ALPINE, image(DATA), PUBLIC)
        orphan = file_of(store)
        await store._shelf.database.remember("clean", "0")
        store._shelf.database.remember = _forget  # type: ignore[assignment,method-assign]
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(DATA)
    async with open_store(tmp_path) as store, asyncio.timeout(20):
        await store.settled()
        holding = await store.find(DIGEST)
        assert holding is not None
        assert holding.visibility is Visibility.PRIVATE


async def _forget(_name: str, _value: str) -> None:
    """As if the process had been killed."""


async def test_after_a_loss_of_power_unsynced_files_are_verified_before_use(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA, PUBLIC)
        path = file_of(store)
        await store.settled()  # which notes this boot
        await store._shelf.database.remember("boot", "another")
    flip(path, restore_times=True)
    async with open_store(tmp_path) as store:
        with pytest.raises(NotFoundError):
            await read(store)
        await assert_forgotten(store)


async def test_a_synced_file_is_trusted_after_a_loss_of_power(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA, PUBLIC)
        await store._upkeep.sync()
        assert await store._catalog.not_durable(10) == []
        await store.settled()  # which notes this boot
        await store._shelf.database.remember("boot", "another")
    async with open_store(tmp_path) as store:
        flip(file_of(store), restore_times=True)  # were it verified again, this would show
        assert await read(store) != DATA


async def test_own_repositories_outlive_a_catalog_that_breaks(tmp_path: Path) -> None:
    """Nothing but the catalog knows their names, so what can still be read of them is taken over."""
    async with open_store(tmp_path) as store:
        for at in range(300):
            await store.put(Digest.of(at.to_bytes(2, "big")), at.to_bytes(2, "big"), PUBLIC)
        await store.put(DIGEST, DATA, Proof(Visibility.MEMBERS), Repository(OWN, "team/app"))
        await store.owned.add_blob("team/app", DIGEST, len(DATA))
        node_id = store.node_id
    with (tmp_path / "catalog.db").open("r+b") as file:
        (root,) = _pages_of(tmp_path / "catalog.db", "blobs")
        file.seek((root - 1) * 4096)
        file.write(content(4096))
    async with open_store(tmp_path) as store, asyncio.timeout(30):
        for at in range(300):
            await store.find(Digest.of(at.to_bytes(2, "big")))
        await store.settled()
        assert (tmp_path / "catalog.db.salvaged").exists()
        assert store.node_id == node_id
        found = await store.owned.blob("team/app", DIGEST)
        assert found is not None and found.size == len(DATA)
        holding = await store.find(DIGEST)
        assert holding is not None and holding.visibility is Visibility.MEMBERS


def _pages_of(catalog: Path, table: str) -> tuple[int, ...]:
    with closing(sqlite3.connect(catalog)) as connection:
        return tuple(connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone())


@pytest.mark.parametrize("table", ["meta", "records", "blobs"])
async def test_what_was_pushed_is_shown_again_whichever_table_broke(tmp_path: Path, table: str) -> None:
    own = Repository(OWN, "team/app")
    async with open_store(tmp_path) as store:
        for at in range(300):
            data = at.to_bytes(2, "big")
            await store.put(Digest.of(data), data, Proof(Visibility.MEMBERS), own)
            await store.owned.add_blob("team/app", Digest.of(data), len(data))
        await store.put(DIGEST, DATA, Proof(Visibility.MEMBERS), own)
        await store.owned.add_blob("team/app", DIGEST, len(DATA))
        node_id = store.node_id
    (root,) = _pages_of(tmp_path / "catalog.db", table)
    with (tmp_path / "catalog.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(content(200))
    async with open_store(tmp_path) as store, asyncio.timeout(30):
        with suppress(UnreachableError):
            await store.owned.tags("team/app")
            for at in range(300):
                await store.find(Digest.of(at.to_bytes(2, "big")))
        await store.settled()
        if table == "records":
            holding = await store.find(DIGEST)
            assert holding is not None and holding.visibility is Visibility.PRIVATE  # nobody knows whose it is
            whole = Content(DIGEST, len(DATA))
            await store.owned.merge([Record("team/app", Kind.BLOB, str(DIGEST), whole, 1, "a" * 32, 0)])
        holding = await store.find(DIGEST)
        assert holding is not None and holding.visibility is Visibility.MEMBERS
        if table != "meta":
            assert store.node_id == node_id
        if table != "records":
            assert await store.owned.blob("team/app", DIGEST) is not None


async def test_salvaging_that_a_kill_cut_short_is_done_by_the_next_start(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.owned.add_blob("team/app", DIGEST, len(DATA))
    (tmp_path / "catalog.db").replace(tmp_path / "catalog.db.damaged")
    async with open_store(tmp_path) as store:
        assert await store.owned.blob("team/app", DIGEST) is not None
    assert (tmp_path / "catalog.db.salvaged").exists()


async def test_records_of_an_older_version_are_salvaged_as_well(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.owned.add_blob("team/app", DIGEST, len(DATA))
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as older:
        older.executescript("DROP INDEX records_told_by; ALTER TABLE records DROP COLUMN told_by;")
    (tmp_path / "catalog.db").replace(tmp_path / "catalog.db.damaged")
    async with open_store(tmp_path) as store:
        assert await store.owned.blob("team/app", DIGEST) is not None


async def test_a_claim_shows_nothing_after_a_loss_of_the_catalog(tmp_path: Path) -> None:
    """A mount writes a record without any bytes: what is private here stays so."""
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA)
        await store.owned.add_blob("team/app", DIGEST, len(DATA))
    (tmp_path / "catalog.db").replace(tmp_path / "catalog.db.damaged")
    async with open_store(tmp_path) as store, asyncio.timeout(20):
        await store.settled()
        holding = await store.find(DIGEST)
        assert holding is not None and holding.visibility is Visibility.PRIVATE


async def test_what_came_for_an_own_repository_and_has_no_record_stays_hidden_after_a_loss_of_the_catalog(
    tmp_path: Path,
) -> None:
    """A client pushed it, and was cut before the record: nobody would know whose it is."""
    async with open_store(tmp_path) as store:
        await store.put(DIGEST, DATA, None, Repository(OWN, "team/app"))
    (tmp_path / "catalog.db").replace(tmp_path / "catalog.db.damaged")
    async with open_store(tmp_path) as store, asyncio.timeout(20):
        await store.settled()
        assert (await store.changes(0, Audience.MEMBERS)).entries == ()
