"""Blobs that clients push: whole, in pieces, over a restart; right bytes under their name, or nothing."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.changes import Change, RecordChange
from node.digest import Algorithm, Digest
from node.errors import FullError, MismatchError, NotFoundError, ThrottledError
from node.growing import MAX_LAG_BYTES
from node.reference import OWN, Repository
from node.store import Store, open_store
from node.uploads import EXPIRY_S, LEAST_S, TakenOverError, Upload
from node.visibility import Audience, Visibility
from tests.node.contents import MIB, Clock, content, mounted

APP, OTHER = Repository(OWN, "team/app"), Repository(OWN, "team/other")
DATA = content(3 * MIB + 5)
DIGEST = Digest.of(DATA)
SIZES = (0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this: run the tests as root")


def left(store: Store) -> list[str]:
    """The files in uploads/."""
    return sorted(each.name for each in (store.folder / "uploads").iterdir())


async def bring(upload: Upload, data: bytes, piece: int = 300_000) -> int:
    """Bring bytes as one request; its turn."""
    turn = upload.turn()
    for at in range(0, len(data), piece):
        await upload.write(turn, data[at : at + piece])
    await upload.written()
    return turn


async def push(store: Store, data: bytes, digest: Digest, repository: Repository = APP) -> None:
    upload = await store.uploads.begin(repository, digest.algorithm)
    await store.uploads.finish(upload, await bring(upload, data), digest)


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


@contextmanager
def hashing_held(store: Store) -> Iterator[None]:
    """Nothing is hashed meanwhile."""
    go_on = threading.Event()
    for _ in range(os.cpu_count() or 1):
        store._shelf.workers.hashing.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


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


async def test_what_is_cancelled_is_gone(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    turn = await bring(upload, DATA)
    await store.uploads.cancel(upload)
    assert left(store) == []
    with pytest.raises(NotFoundError):
        await store.uploads.find(APP, upload.name)
    with pytest.raises(MismatchError):
        await upload.write(turn, b"late")


async def test_an_upload_that_is_being_cancelled_is_not_found_again(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    await bring(upload, DATA)
    cancelling = asyncio.create_task(store.uploads.cancel(upload))
    while not cancelling.done():
        await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            await store.uploads.find(APP, upload.name)
    await cancelling
    assert (left(store), store.uploads._uploads) == ([], {})


async def test_what_is_cancelled_while_it_is_finished_fails_or_is_kept_whole(store: Store) -> None:
    for pauses in range(12):
        upload = await store.uploads.begin(APP)
        finishing = asyncio.create_task(store.uploads.finish(upload, await bring(upload, DATA), DIGEST))
        for _ in range(pauses):
            await asyncio.sleep(0)
        await store.uploads.cancel(upload)
        await asyncio.wait([finishing], timeout=10)
        assert isinstance(finishing.exception(), MismatchError | FullError | None)
        if await store.find(DIGEST) is not None:
            assert await store.load(DIGEST) == DATA
            await store.drop(DIGEST)
        assert left(store) == []


async def test_a_request_that_waits_for_the_disk_when_another_finishes_ends(store: Store) -> None:
    upload = await store.uploads.begin(APP)
    data = content(MAX_LAG_BYTES)
    turn = upload.turn()
    writing = asyncio.create_task(upload.write(turn, data))
    await asyncio.sleep(0)
    finishing = asyncio.create_task(store.uploads.finish(upload, upload.turn(), Digest.of(data)))
    done, _ = await asyncio.wait([writing, finishing], timeout=20)
    assert done == {writing, finishing}
    assert finishing.exception() is None
    assert writing.exception() is None or isinstance(writing.exception(), MismatchError)


async def test_an_upload_nobody_goes_on_with_for_a_day_is_thrown_away(tmp_path: Path, clock: Clock) -> None:
    elapsed = Clock(0.0)
    async with open_store(tmp_path, clock=clock, elapsed=elapsed) as store:
        old, newer = await store.uploads.begin(APP), await store.uploads.begin(APP)
        await bring(old, DATA)
        elapsed.now += EXPIRY_S - 60
        await store.uploads.find(APP, newer.name)
        elapsed.now += 120
        await store.uploads.expire()
        assert left(store) == [f"{newer.name}.json"]
        with pytest.raises(NotFoundError):
            await store.uploads.find(APP, old.name)
        await store.uploads.find(APP, newer.name)


@pytest.mark.parametrize("jump_s", [-10 * EXPIRY_S, 10 * EXPIRY_S])
async def test_a_clock_that_is_set_ends_no_upload(tmp_path: Path, jump_s: float) -> None:
    clock, elapsed = Clock(time.time()), Clock(0.0)
    async with open_store(tmp_path, clock=clock, elapsed=elapsed) as store:
        begun, other = [await store.uploads.begin(APP) for _ in range(2)]
        await bring(begun, DATA)
        await bring(other, DATA)
        clock.now += jump_s
        await store.uploads.expire()
        assert (await store.uploads.find(APP, begun.name)).size == len(DATA)
    for _ in range(2):  # also by who finds them left, before or behind the jump
        async with open_store(tmp_path, clock=clock, elapsed=elapsed) as store:
            await store.uploads.expire()
            clock.now += jump_s
            elapsed.now += LEAST_S - 1
            await store.uploads.expire()
            assert (await store.uploads.find(APP, begun.name)).size == len(DATA)
    async with open_store(tmp_path, clock=clock, elapsed=elapsed) as store:
        await store.uploads.expire()
        elapsed.now += EXPIRY_S + 1
        await store.uploads.expire()
        assert left(store) == []


async def test_what_an_earlier_run_left_is_thrown_away_a_day_after_its_last_byte(tmp_path: Path) -> None:
    elapsed = Clock(0.0)
    async with open_store(tmp_path) as store:
        uploads = [await store.uploads.begin(APP) for _ in range(3)]
        for upload in uploads[:2]:
            await bring(upload, DATA)
        folder = store.folder / "uploads"
    stale, going_on, empty = uploads
    now = (folder / going_on.name).stat().st_mtime
    for name in (stale.name, f"{stale.name}.json", f"{going_on.name}.json", f"{empty.name}.json"):
        os.utime(folder / name, (now, now - EXPIRY_S - 60))
    async with open_store(tmp_path, elapsed=elapsed) as store:
        await store.uploads.expire()
        assert (await store.uploads.find(APP, empty.name)).size == 0  # it has an hour in any case
        await store.uploads.cancel(await store.uploads.find(APP, empty.name))
        elapsed.now += LEAST_S + 1
        await store.uploads.expire()
        assert left(store) == sorted((going_on.name, f"{going_on.name}.json"))
        assert (await store.uploads.find(APP, going_on.name)).size == len(DATA)


async def test_too_many_uploads_are_refused_until_some_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.uploads.MOST_UPLOADS", 3)
    begun = await asyncio.gather(*(store.uploads.begin(APP) for _ in range(8)), return_exceptions=True)
    uploads = [each for each in begun if isinstance(each, Upload)]
    assert len(uploads) == 3
    assert all(isinstance(each, Upload | ThrottledError) for each in begun)
    await store.uploads.cancel(uploads[0])
    await store.uploads.begin(APP)


@root_only
async def test_a_full_disk_is_said_and_its_upload_leaves_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "8m"):
        async with open_store(small / "data") as store:
            upload = await store.uploads.begin(APP)
            with pytest.raises(FullError, match="No space left"):
                await bring(upload, content(16 * MIB))
            with pytest.raises(NotFoundError):
                await store.uploads.find(APP, upload.name)
            assert left(store) == []
            await push(store, DATA, DIGEST)
            assert await store.load(DIGEST) == DATA


async def test_closing_leaves_what_came_and_no_file_open(tmp_path: Path, clock: Clock) -> None:
    async with open_store(tmp_path, clock=clock) as store:
        uploads = [await store.uploads.begin(APP) for _ in range(3)]
        await asyncio.gather(*(bring(each, DATA) for each in uploads))
        names = left(store)
    assert sorted(each.name for each in (tmp_path / "uploads").iterdir()) == names


async def test_the_bytes_of_a_push_are_on_the_disk_itself_when_it_is_kept(store: Store) -> None:
    synced: list[Digest] = []
    original = store._shelf.folder.sync

    def sync(digest: Digest) -> None:
        original(digest)
        synced.append(digest)

    store._shelf.folder.sync = sync  # type: ignore[method-assign]
    await push(store, DATA, DIGEST)
    assert synced == [DIGEST]
