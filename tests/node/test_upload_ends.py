"""How uploads end that nobody finished, or that found no room."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from node.digest import Digest
from node.errors import FullError, MismatchError, NotFoundError, ThrottledError
from node.growing import MAX_LAG_BYTES
from node.store import Store, open_store
from node.uploads import EXPIRY_S, LEAST_S, Upload
from tests.node.contents import MIB, Clock, content, mounted
from tests.node.uploading import APP, DATA, DIGEST, bring, left, push, root_only


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
