"""Own repositories as one node keeps them, and as members' records are merged."""

import sqlite3
from pathlib import Path

import pytest

from node.connection import Row, Transaction, Values
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.owned import MissingError, Owned
from node.records import TOMBSTONE_S, Content, Kind, stamp_at
from node.reference import OWN, Repository, Tag
from node.schema import SCHEMA, SCHEMA_VERSION, UPGRADES
from node.store import Store, open_store
from node.visibility import Visibility
from tests.node.contents import Clock, index
from tests.node.owning import APP, ONE, THREE, TWO, V1, V2, entered, meaning_of, push, records, state, tagged


async def test_a_pushed_manifest_is_found_by_digest_and_by_each_of_its_tags(store: Store) -> None:
    await push(store, ONE, V1, V2)
    assert await store.owned.manifest(APP, ONE.digest) == meaning_of(ONE)
    assert await store.owned.tag(APP, V1) == await store.owned.tag(APP, V2) == meaning_of(ONE)
    assert await store.owned.tags(APP) == ("v1", "v2")
    assert await store.owned.manifest("team/other", ONE.digest) is None


async def test_a_blob_belongs_to_the_repository_it_was_added_to_alone(store: Store) -> None:
    await store.owned.add_blob(APP, ONE.digest, 5)
    assert await store.owned.blob(APP, ONE.digest) == Content(ONE.digest, 5)
    assert await store.owned.blob("team/other", ONE.digest) is None
    assert await store.owned.having(ONE.digest) == (APP,)


async def test_a_manifest_that_names_what_is_not_there_changes_nothing(store: Store) -> None:
    with pytest.raises(MissingError):
        await store.owned.push(APP, ONE, [V1])
    assert await records(store) == []
    assert not await store.owned.exists(APP)


async def test_a_manifest_that_lies_about_a_size_changes_nothing(store: Store) -> None:
    await store.owned.add_blob(APP, ONE.names[0].digest, ONE.names[0].size + 1)
    with pytest.raises(InvalidError, match="bytes"):
        await store.owned.push(APP, ONE, [V1])
    assert await store.owned.tags(APP) == ()


async def test_an_index_needs_manifests_where_it_names_some(store: Store) -> None:
    both = index(ONE, TWO)
    for each in both.names:
        await store.owned.add_blob(APP, each.digest, each.size)
    with pytest.raises(MissingError):
        await store.owned.push(APP, both, [V1])
    await push(store, ONE)
    await push(store, TWO)
    await store.owned.push(APP, both, [V1])
    assert await store.owned.tags(APP) == ("v1",)


async def test_what_is_deleted_is_not_found_and_can_be_deleted_once(store: Store) -> None:
    await push(store, ONE, V1, V2)
    await store.owned.delete_tag(APP, V1)
    assert (await store.owned.tag(APP, V1), await store.owned.tags(APP)) == (None, ("v2",))
    assert await store.owned.manifest(APP, ONE.digest) is not None
    await store.owned.delete_manifest(APP, ONE.digest)
    assert (await store.owned.tag(APP, V2), await store.owned.tags(APP)) == (None, ())
    layer = ONE.names[0].digest
    await store.owned.delete_blob(APP, layer)
    assert await store.owned.blob(APP, layer) is None
    for again in (
        store.owned.delete_tag(APP, V1),
        store.owned.delete_manifest(APP, ONE.digest),
        store.owned.delete_blob(APP, layer),
    ):
        with pytest.raises(NotFoundError):
            await again
    assert await store.owned.exists(APP)  # it was known, and is empty
    assert await store.owned.repositories() == ()


async def test_tags_come_in_the_order_of_their_bytes_and_in_parts(store: Store) -> None:
    names = ["Z", "_1", "a", "a.b", "a-b", "B", "10", "9"]
    await push(store, ONE, *(Tag(name) for name in names))
    assert await store.owned.tags(APP) == tuple(sorted(names))
    assert await store.owned.tags(APP, "B", 3) == tuple(sorted(names))[3:6]
    assert await store.owned.tags(APP, "zz", 3) == await store.owned.tags(APP, "", 0) == ()


async def test_repositories_that_have_something_come_in_the_order_of_their_names(store: Store) -> None:
    for name in ("b", "a/b", "c", "a", "gone"):
        await store.owned.add_blob(name, ONE.digest, 1)
        await store.owned.add_blob(name, TWO.digest, 1)
    for manifest in (ONE, TWO):
        await store.owned.delete_blob("gone", manifest.digest)
    assert await store.owned.repositories() == ("a", "a/b", "b", "c")
    assert await store.owned.repositories("a", 2) == ("a/b", "b")
    assert await store.owned.repositories("c") == await store.owned.repositories("", 0) == ()


async def test_no_question_looks_at_every_record(store: Store) -> None:
    asked: list[str] = []
    read = store._shelf.database.read

    async def note(sql: str, values: Values = ()) -> list[Row]:
        plan = await read(f"EXPLAIN QUERY PLAN {sql}", values)
        asked.extend(str(step[3]) for step in plan if str(step[3]).startswith("SCAN records"))
        return await read(sql, values)

    store._shelf.database.read = note  # type: ignore[method-assign]
    owned = store.owned
    for each in (owned.tags(APP), owned.repositories(), owned.referrers(APP, ONE.digest), owned.having(ONE.digest)):
        await each
    assert await owned.conflicts() == ()
    assert [step for step in asked if "USING" not in step] == []


async def test_referrers_are_listed_by_subject_whether_it_is_there_or_not(store: Store) -> None:
    subject = ONE.digest
    await store.owned.merge([entered(TWO, 5, subject=subject), entered(THREE, 6, subject=subject)])
    found = await store.owned.referrers(APP, subject)
    assert [each.digest for each in found] == sorted((TWO.digest, THREE.digest), key=str)
    assert await store.owned.referrers("team/other", subject) == ()
    await store.owned.delete_manifest(APP, TWO.digest)
    assert [each.digest for each in await store.owned.referrers(APP, subject)] == [THREE.digest]


async def test_a_tag_whose_manifest_was_deleted_elsewhere_means_nothing(store: Store) -> None:
    await push(store, ONE, V1)
    (mine,) = [each for each in await records(store) if each.kind is Kind.MANIFEST]
    await store.owned.merge([entered(ONE, mine.stamp + 1, deleted=True)])
    assert (await store.owned.tag(APP, V1), await store.owned.tags(APP)) == (None, ())


async def test_a_deletion_older_than_a_push_loses_and_a_later_one_wins(store: Store) -> None:
    await push(store, ONE, V1)
    (mine,) = [each for each in await records(store) if each.kind is Kind.TAG]
    assert await store.owned.merge([tagged(None, mine.stamp - 1)]) == 0
    assert await store.owned.tag(APP, V1) is not None
    assert await store.owned.merge([tagged(None, mine.stamp + 1)]) == 1
    assert await store.owned.tag(APP, V1) is None


async def test_what_was_written_survives_reopening(tmp_path: Path, clock: Clock) -> None:
    async with open_store(tmp_path, clock=clock) as store:
        await push(store, ONE, V1, V2)
        await store.owned.delete_tag(APP, V2)
        before = await state(store)
    async with open_store(tmp_path, clock=clock) as store:
        assert await state(store) == before
        assert await store.owned.tags(APP) == ("v1",)


async def test_a_clock_that_was_set_back_does_not_hide_what_is_written_next(store: Store, clock: Clock) -> None:
    await push(store, ONE, V1)
    clock.now -= 3600
    await push(store, TWO, V1)
    found = await store.owned.tag(APP, V1)
    assert found is not None and found.digest == TWO.digest


async def test_deletions_are_forgotten_after_thirty_days_and_nothing_else_is(store: Store, clock: Clock) -> None:
    await push(store, ONE, V1, V2)
    await store.owned.delete_tag(APP, V2)
    await store.owned.add_blob(APP, TWO.digest, 1)  # the log's last number is not a deletion's
    clock.now += TOMBSTONE_S - 60
    await store.owned.purge()
    assert [each.name for each in await records(store) if each.content is None] == ["v2"]
    clock.now += 120
    await store.owned.purge()
    assert [each.name for each in await records(store) if each.content is None] == []
    assert await store.owned.tags(APP) == ("v1",)


async def test_what_belongs_nowhere_any_more_is_shown_to_members_no_longer_than_its_deletion_is_known(
    store: Store, clock: Clock
) -> None:
    """A member that forgot that it was an own repository's would give it to clients of mirrored ones."""
    data = b"own"
    digest = Digest.of(data)
    await store.put(digest, data, None, Repository(OWN, APP))
    await store.owned.add_blob(APP, digest, len(data))
    await store.owned.add_blob("team/other", digest, len(data))
    for repository in (APP, "team/other"):
        await store.owned.delete_blob(repository, digest)
        await store.owned.add_blob(repository, Digest.of(b""), 0)  # the log's last number is not a deletion's
        clock.now += TOMBSTONE_S / 2 + 60
    await store.owned.purge()
    assert await visibility(store, digest) is Visibility.MEMBERS and await store.owned.knows(digest)
    clock.now += TOMBSTONE_S / 2
    await store.owned.purge()
    assert await visibility(store, digest) is Visibility.PRIVATE and not await store.owned.knows(digest)


async def visibility(store: Store, digest: Digest) -> Visibility:
    holding = await store.find(digest)
    assert holding is not None
    return holding.visibility


async def test_what_is_purged_never_lets_a_number_of_the_log_be_given_twice(tmp_path: Path, clock: Clock) -> None:
    """A reader that has read up to it would miss what is written next."""
    async with open_store(tmp_path, clock=clock) as store:
        await push(store, ONE, V1)
        await store.owned.delete_tag(APP, V1)
        seq = store._shelf.database.seq
        clock.now += TOMBSTONE_S + 60
        await store.owned.purge()
    async with open_store(tmp_path, clock=clock) as store:
        assert store._shelf.database.seq == seq


async def test_a_deletion_that_everybody_forgot_is_not_taken_in_again(store: Store, clock: Clock) -> None:
    old = tagged(None, stamp_at(clock.now - TOMBSTONE_S - 60))
    assert await store.owned.merge([old]) == 0
    assert await records(store) == []
    assert await store.owned.merge([tagged(ONE, old.stamp - 1), old]) == 2  # where it still deletes something


_LATER = ("sharing", "granted", "shared", "dropped", "foreign_roots", "foreign_blocks", "foreign_links")


async def test_a_version_1_database_is_upgraded_and_keeps_what_it_had(tmp_path: Path, clock: Clock) -> None:
    async with open_store(tmp_path, clock=clock) as store:
        await store.put(Digest.of(b"kept"), b"kept")
        node_id = store.node_id
    older = sqlite3.connect(tmp_path / "catalog.db")
    older.executescript(
        "DROP TABLE records; DROP INDEX fetched_digest; ALTER TABLE fetched DROP COLUMN lent;"
        " ALTER TABLE tags DROP COLUMN lasting; PRAGMA user_version = 1;"
        + "".join(f"DROP TABLE {one};" for one in _LATER)
    )
    older.close()
    async with open_store(tmp_path, clock=clock) as store:
        assert (await store.load(Digest.of(b"kept")), store.node_id) == (b"kept", node_id)
        await push(store, ONE, V1)
        assert await store.owned.tags(APP) == ("v1",)


@pytest.mark.parametrize("version", UPGRADES)
def test_an_upgrade_leads_to_the_tables_of_a_new_database(version: int) -> None:
    missing = [UPGRADES[step] for step in range(version, SCHEMA_VERSION)]
    old = SCHEMA
    for step in missing:
        assert step in old
        old = old.replace(step, "")
    made = []
    for script in (SCHEMA, old + "".join(missing)):
        database = sqlite3.connect(":memory:")
        database.executescript(script)
        made.append(sorted(database.execute("SELECT type, name, sql FROM sqlite_master")))
        database.close()
    assert made[0] == made[1]


async def test_what_is_remembered_in_memory_is_never_what_was_changed(store: Store) -> None:
    for manifest in (ONE, TWO, ONE, THREE):
        await push(store, manifest, V1)
        for _ in range(2):
            found = await store.owned.tag(APP, V1)
            assert found is not None and found.digest == manifest.digest
    generation = store.owned.generation
    await store.owned.delete_tag(APP, V1)
    assert store.owned.generation > generation
    assert await store.owned.tag(APP, V1) is None


async def test_a_push_that_finds_the_database_broken_is_read_back_all_the_same(store: Store) -> None:
    """The write is done again in a new, empty database; what was asked of that one meanwhile is not remembered."""
    database, owned = store._shelf.database, store.owned
    original = database._transact
    failed: list[bool] = []

    async def failing(job: object, durable: bool) -> object:
        if not failed:
            failed.append(True)
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        database._transact = original  # type: ignore[method-assign]
        assert await owned.blob(APP, ONE.digest) is None
        return await original(job, durable)  # type: ignore[arg-type]

    database._transact = failing  # type: ignore[assignment,method-assign]
    await owned.add_blob(APP, ONE.digest, 5)
    assert await owned.blob(APP, ONE.digest) == Content(ONE.digest, 5)


async def test_a_job_that_fails_in_the_middle_leaves_no_record(store: Store) -> None:
    def half(transaction: Transaction) -> None:
        raise OSError("gone")

    await push(store, ONE, V1)
    before = await state(store)
    with pytest.raises(OSError, match="gone"):
        await store._shelf.database.write(half, durable=True)
    assert await state(store) == before


async def test_records_of_another_kind_do_not_mix(store: Store) -> None:
    await store.owned.add_blob(APP, ONE.digest, len(ONE.data))
    assert await store.owned.manifest(APP, ONE.digest) is None
    with pytest.raises(NotFoundError):
        await store.owned.delete_manifest(APP, ONE.digest)
    assert isinstance(store.owned, Owned)
