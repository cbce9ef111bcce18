"""Blobs that clients push: whole, in pieces, over a restart; right bytes under their name, or nothing."""

import asyncio
import os
from pathlib import Path

import pytest

from node.changes import Change, RecordChange
from node.digest import Algorithm, Digest
from node.errors import MismatchError, NotFoundError
from node.growing import MAX_LAG_BYTES
from node.store import Store, open_store
from node.uploads import TakenOverError
from node.visibility import Audience, Visibility
from tests.node.contents import MIB, Clock, content
from tests.node.uploading import APP, DATA, DIGEST, OTHER, bring, hashing_held, left, push, root_only

SIZES = (0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1)


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_a_blob_that_was_pushed_is_shown_to_members_behind_the_record_that_says_whose_it_is(
    store: Store, algorithm: Algorithm
) -> None:
    digest = Digest.of(DATA, algorithm)
    await push(store, DATA, digest)
    assert await store.load(digest) == DATA
    assert left(store) == []
    assert (await store.changes(0, Audience.MEMBERS)).entries == ()
    await store.owned.add_blob(OTHER.name, digest, len(DATA))  # a claim: it came for another repository
    assert [type(each) for each in (await store.changes(0, Audience.MEMBERS)).entries] == [RecordChange]
    await store.owned.add_blob(APP.name, digest, len(DATA))
    _, record, shown = (await store.changes(0, Audience.MEMBERS)).entries
    assert isinstance(record, RecordChange) and isinstance(shown, Change)
    assert shown.holding is not None and shown.holding.visibility is Visibility.MEMBERS


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("size", SIZES)
async def test_a_pushed_blob_has_the_cid_that_the_same_bytes_get_otherwise(
    store: Store, size: int, algorithm: Algorithm, tmp_path: Path
) -> None:
    data = content(size)
    digest = Digest.of(data, algorithm)
    await push(store, data, digest)
    async with open_store(tmp_path / "other") as other:
        expected = await other.put(digest, data)
    pushed = await store.find(digest)
    assert pushed is not None
    assert (pushed.cid, pushed.size) == (expected.cid, size)
    assert await store.load(digest) == data


async def test_a_digest_of_another_algorithm_than_was_announced_is_taken(store: Store) -> None:
    digest = Digest.of(DATA, Algorithm.SHA512)
    upload = await store.uploads.begin(APP)
    await store.uploads.finish(upload, await bring(upload, DATA), digest)
    assert await store.load(digest) == DATA


async def test_pieces_of_several_requests_make_one_blob(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    for at in (0, MIB, 2 * MIB):
        found = await store.uploads.find(APP, upload.name)
        await bring(found, DATA[at : at + MIB if at < 2 * MIB else None])
        assert found.size == min(at + MIB, len(DATA)) or at == 2 * MIB
    await store.uploads.finish(upload, upload.turn(), DIGEST)
    assert await store.load(DIGEST) == DATA


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("before", [1, MIB, MIB + 7, len(DATA)])
async def test_what_came_is_gone_on_with_by_the_next_run(
    tmp_path: Path, clock: Clock, before: int, algorithm: Algorithm
) -> None:
    digest = Digest.of(DATA, algorithm)
    async with open_store(tmp_path, clock=clock) as store:
        upload = await store.uploads.begin(APP, algorithm)
        await bring(upload, DATA[:before])
    async with open_store(tmp_path, clock=clock) as store:
        again = await store.uploads.find(APP, upload.name)
        assert again.size == before
        await store.uploads.finish(again, await bring(again, DATA[before:]), digest)
        assert await store.load(digest) == DATA
        assert left(store) == []


async def test_who_goes_on_after_a_restart_does_not_wait_until_what_came_before_is_hashed_again(
    tmp_path: Path, clock: Clock
) -> None:
    before, behind = content(MAX_LAG_BYTES + MIB), content(MAX_LAG_BYTES + MIB)
    digest = Digest.of(before + behind)
    async with open_store(tmp_path, clock=clock) as store:
        upload = await store.uploads.begin(APP)
        await bring(upload, before)
    async with open_store(tmp_path, clock=clock) as store:
        with hashing_held(store):
            async with asyncio.timeout(10):
                again = await store.uploads.find(APP, upload.name)
                assert again.size == len(before)
                turn = await bring(again, behind, MIB)
            assert store._shelf.workers.kept.used == 0  # what waits so long for its hash waits in no memory
        await store.uploads.finish(again, turn, digest)
        assert await store.load(digest, 1 << 30) == before + behind


async def test_bytes_are_hashed_by_the_algorithm_they_will_be_named_by_as_soon_as_that_is_known(store: Store) -> None:
    digest = Digest.of(DATA + DATA, Algorithm.SHA512)
    upload = await store.uploads.begin(APP)
    await bring(upload, DATA)
    upload.hash_by(digest.algorithm)
    hashing = upload._growing._digest_pass
    turn = await bring(upload, DATA)
    await store.uploads.finish(upload, turn, digest)
    assert (upload._growing._digest_pass is hashing, hashing.done) == (True, 2 * len(DATA))
    assert await store.load(digest, 1 << 30) == DATA + DATA


async def test_an_upload_without_a_byte_is_gone_on_with_by_the_next_run(tmp_path: Path, clock: Clock) -> None:
    async with open_store(tmp_path, clock=clock) as store:
        upload = await store.uploads.begin(APP)
    async with open_store(tmp_path, clock=clock) as store:
        again = await store.uploads.find(APP, upload.name)
        await store.uploads.finish(again, await bring(again, DATA), DIGEST)
        assert await store.load(DIGEST) == DATA


@pytest.mark.parametrize("data", [b"", DATA])
async def test_a_file_that_was_made_but_got_no_byte_is_gone_on_with(tmp_path: Path, clock: Clock, data: bytes) -> None:
    """As a kill, or a full disk, between the two leaves it."""
    async with open_store(tmp_path, clock=clock) as store:
        upload = await store.uploads.begin(APP)
        (store.folder / "uploads" / upload.name).touch(0o444)
    async with open_store(tmp_path, clock=clock) as store:
        again = await store.uploads.find(APP, upload.name)
        await store.uploads.finish(again, await bring(again, data), Digest.of(data))
        assert await store.load(Digest.of(data)) == data


@root_only
async def test_a_node_that_does_not_run_as_root_goes_on_with_an_upload_as_well(tmp_path: Path, clock: Clock) -> None:
    nobody = 65534
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
        if folder.name.startswith("pytest-of-"):
            break
    os.chown(tmp_path, nobody, nobody)
    os.seteuid(nobody)
    try:
        async with open_store(tmp_path / "data", clock=clock) as store:
            upload = await store.uploads.begin(APP)
            await bring(upload, DATA[:MIB])
        async with open_store(tmp_path / "data", clock=clock) as store:
            again = await store.uploads.find(APP, upload.name)
            await store.uploads.finish(again, await bring(again, DATA[MIB:]), DIGEST)
            async with store.read(DIGEST) as blob:
                assert os.fstat(blob.fileno()).st_mode & 0o777 == 0o444
    finally:
        os.seteuid(0)


async def test_a_second_request_takes_over_from_the_first(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    first = upload.turn()
    await upload.write(first, DATA[:MIB])
    second = upload.turn()
    with pytest.raises(TakenOverError):
        await upload.write(first, b"late")
    with pytest.raises(TakenOverError):
        await store.uploads.finish(upload, first, DIGEST)
    await upload.write(second, DATA[MIB:])
    await store.uploads.finish(upload, second, DIGEST)
    assert await store.load(DIGEST) == DATA


@pytest.mark.parametrize("data", [b"", b"short", DATA])
async def test_a_wrong_digest_leaves_nothing(store: Store, data: bytes) -> None:
    wrong = Digest.of(b"something else")
    upload = await store.uploads.begin(APP)
    with pytest.raises(MismatchError):
        await store.uploads.finish(upload, await bring(upload, data), wrong)
    assert await store.find(wrong) is None
    assert left(store) == []
    with pytest.raises(NotFoundError):
        await store.uploads.find(APP, upload.name)


@pytest.mark.parametrize("wrong_first", [True, False])
async def test_two_that_finish_at_once_by_different_names_never_keep_bytes_under_a_wrong_one(
    store: Store, wrong_first: bool
) -> None:
    wrong = Digest.of(b"something else")
    upload = await store.uploads.begin(APP)
    with hashing_held(store):
        await bring(upload, DATA)
        names = (wrong, DIGEST) if wrong_first else (DIGEST, wrong)
        ends = [asyncio.create_task(_finish(store, upload.name, name)) for name in names]
        for _ in range(10):
            await asyncio.sleep(0)
    await asyncio.wait(ends, timeout=10)
    assert await store.find(wrong) is None
    assert isinstance(ends[1].exception(), NotFoundError | TakenOverError)
    assert isinstance(ends[0].exception(), MismatchError) is wrong_first
    assert left(store) == []


async def _finish(store: Store, name: str, digest: Digest) -> None:
    """As one request does."""
    upload = await store.uploads.find(APP, name)
    turn = upload.turn()
    await upload.written()
    await store.uploads.finish(upload, turn, digest)


async def test_nothing_is_added_to_what_is_being_finished(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    with hashing_held(store):
        turn = await bring(upload, DATA)
        finishing = asyncio.create_task(store.uploads.finish(upload, turn, DIGEST))
        await asyncio.sleep(0)
        with pytest.raises(TakenOverError):
            await upload.write(turn, b"more")
        with pytest.raises(TakenOverError):
            upload.turn()
    await finishing
    assert await store.load(DIGEST) == DATA


async def test_an_upload_that_a_stop_interrupts_as_it_is_finished_is_gone_on_with_by_the_next_run(
    tmp_path: Path, clock: Clock
) -> None:
    async with open_store(tmp_path, clock=clock) as store:
        upload = await store.uploads.begin(APP)
        with hashing_held(store):
            finishing = asyncio.create_task(store.uploads.finish(upload, await bring(upload, DATA), DIGEST))
            await asyncio.sleep(0)
            finishing.cancel()
            await asyncio.wait([finishing])
    async with open_store(tmp_path, clock=clock) as store:
        again = await store.uploads.find(APP, upload.name)
        await store.uploads.finish(again, again.turn(), DIGEST)
        assert await store.load(DIGEST) == DATA


async def test_an_upload_belongs_to_its_repository(store: Store, tmp_path: Path, clock: Clock) -> None:
    upload = await store.uploads.begin(APP)
    for repository, name in ((OTHER, upload.name), (APP, "0" * 32), (APP, "../catalog.db"), (APP, ""), (APP, "a" * 9)):
        with pytest.raises(NotFoundError):
            await store.uploads.find(repository, name)
    async with open_store(tmp_path / "x", clock=clock) as one:
        upload = await one.uploads.begin(APP)
    async with open_store(tmp_path / "x", clock=clock) as one:
        with pytest.raises(NotFoundError):
            await one.uploads.find(OTHER, upload.name)
        assert (await one.uploads.find(APP, upload.name)).size == 0


@pytest.mark.parametrize("note", [b"", b"{", b'{"namespace":"local","repository":"team/app","algorithm":"md5"}'])
async def test_a_damaged_note_is_no_upload(store: Store, note: bytes) -> None:
    name = "ab" * 16
    (store.folder / "uploads" / f"{name}.json").write_bytes(note)
    with pytest.raises(NotFoundError):
        await store.uploads.find(APP, name)
