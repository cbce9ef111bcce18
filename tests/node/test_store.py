"""Opening, closing, finding, reading; two processes on one folder; a kill at any moment."""

import asyncio
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from node.catalog import Visibility
from node.cid import Cid
from node.digest import Digest
from node.errors import InvalidError, MismatchError, NotFoundError, StartError
from node.store import Store, open_store
from node.unixfs import LEAF_BYTES
from tests.node.contents import ALPINE, MIB, PRIVATE, PUBLIC, SECRETS, content, image, wanted

DATA = content(3 * MIB + 5)
DIGEST = Digest.of(DATA)


async def test_what_was_kept_is_found_by_digest_and_by_cid(store: Store) -> None:
    holding = await store.put(DIGEST, DATA, PUBLIC)
    assert (holding.size, holding.visibility) == (len(DATA), Visibility.PUBLIC)
    assert await store.find(DIGEST) == holding
    assert await store.find_cid(holding.cid) == holding


async def test_what_is_not_held_is_not_found(store: Store) -> None:
    assert await store.find(DIGEST) is None
    assert await store.dag(DIGEST) is None
    assert await store.find_cid(Cid.of(b"?")) is None
    with pytest.raises(NotFoundError):
        async with store.read(DIGEST):
            pass
    with pytest.raises(NotFoundError):
        await store.load(DIGEST)
    with pytest.raises(NotFoundError):
        await store.block(Cid.of(b"?"))


async def test_every_block_of_a_blob_is_found_where_it_lies(store: Store) -> None:
    await store.put(DIGEST, DATA)
    dag = await store.dag(DIGEST)
    assert dag is not None
    for index in range(dag.leaf_count):
        block = await store.block(dag.leaf(index).cid)
        assert (block.offset, block.length) == (index * LEAF_BYTES, dag.leaf(index).length)
        assert block.within is not None
    for cid, data in dag.interior:
        assert (await store.block(cid)).data == data


async def test_a_block_of_two_blobs_has_the_better_visibility_and_outlives_one(store: Store) -> None:
    other = DATA[:MIB] + content(MIB, "other")
    await store.put(DIGEST, DATA, PRIVATE)
    await store.put(Digest.of(other), other, PUBLIC)
    shared = Cid.of(DATA[:MIB])
    assert (await store.block(shared)).visibility is Visibility.PUBLIC
    await store.drop(Digest.of(other))
    assert (await store.block(shared)).visibility is Visibility.PRIVATE
    await store.drop(DIGEST)
    with pytest.raises(NotFoundError):
        await store.block(shared)


async def test_bytes_that_do_not_hash_to_their_digest_are_refused(store: Store) -> None:
    with pytest.raises(MismatchError):
        await store.put(DIGEST, DATA[1:] + b"?")
    assert await store.find(DIGEST) is None


async def test_a_blob_too_long_to_load_is_refused(store: Store) -> None:
    await store.put(DIGEST, DATA)
    with pytest.raises(InvalidError, match="at most 1000"):
        await store.load(DIGEST, limit=1000)


async def test_a_dropped_blob_stays_readable_for_who_has_it_open(store: Store) -> None:
    await store.put(DIGEST, DATA)
    before = store.generation
    async with store.read(DIGEST) as blob:
        await store.drop(DIGEST)
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA
    assert await store.find(DIGEST) is None
    assert store.generation > before
    assert (store.stats.blobs, store.stats.store_bytes) == (0, 0)
    assert not blob.path.exists()


async def test_a_small_blob_that_was_dropped_is_not_remembered(store: Store) -> None:
    await store.put(Digest.of(b"small"), b"small")
    assert await store.load(Digest.of(b"small")) == b"small"
    await store.drop(Digest.of(b"small"))
    with pytest.raises(NotFoundError):
        await store.load(Digest.of(b"small"))


async def test_a_store_opened_again_holds_and_says_the_same(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        holding = await store.put(DIGEST, DATA, PUBLIC)
        await store.repositories.record(ALPINE, image(DATA), PUBLIC)
        before = (store.node_id, store.log_id, store.stats)
    async with open_store(tmp_path / "data") as store:
        assert (store.node_id, store.log_id, store.stats) == before
        assert await store.find(DIGEST) == holding
        assert await store.repositories.link(ALPINE, DIGEST) is not None


async def test_a_blob_is_seen_as_the_repository_says_that_it_came_from(store: Store) -> None:
    await store.repositories.record(ALPINE, image(DATA), PUBLIC)
    await store.repositories.record(SECRETS, image(DATA), PRIVATE)
    assert (await store.put(DIGEST, DATA, repository=SECRETS)).visibility is Visibility.PRIVATE
    assert (await store.put(DIGEST, DATA, repository=ALPINE)).visibility is Visibility.PUBLIC


async def test_what_the_body_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        async with open_store(tmp_path / "data") as store:
            await store.load(DIGEST)


async def test_a_folder_in_use_is_refused_with_the_process_that_has_it(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data"):
        with pytest.raises(StartError, match=rf"in use by another node \(process {os.getpid()}\)"):
            async with open_store(tmp_path / "data"):
                pass


async def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StartError, match=r"no layermesh folder, it holds 'thesis.tex'"):
        async with open_store(tmp_path):
            pass
    assert _listing(tmp_path) == {"thesis.tex": "years of work"}


async def test_a_folder_of_a_newer_layermesh_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("layermesh 7\n")
    with pytest.raises(StartError, match="'layermesh 7'"):
        async with open_store(tmp_path):
            pass


async def test_a_folder_whose_mark_was_lost_with_the_power_is_marked_again(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    mark = (tmp_path / "format").read_text()
    (tmp_path / "format").write_text("")
    async with open_store(tmp_path):
        assert (tmp_path / "format").read_text() == mark


async def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used"):
        async with open_store(tmp_path / "file" / "data"):
            pass


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    (tmp_path / "incoming" / "half").write_bytes(b"half")
    async with open_store(tmp_path):
        assert list((tmp_path / "incoming").iterdir()) == []


_WRITER = """
import asyncio, sys
from pathlib import Path
from node.digest import Digest
from node.store import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        at = 0
        while True:
            data = at.to_bytes(8, "big") * 200_000
            await store.put(Digest.of(data), data)
            print(Digest.of(data), flush=True)
            at += 1

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 4, 9])
async def test_a_killed_node_has_kept_what_it_said_and_nothing_half(tmp_path: Path, after: int) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    said = [Digest.parse((await writer.stdout.readline()).decode().strip()) for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    await writer.wait()
    async with open_store(tmp_path) as store:
        for digest in said:
            async with store.read(digest):
                pass
        async with asyncio.timeout(20):
            await store.settled()
        files = [each.name for each in (tmp_path / "blobs").rglob("*") if each.is_file()]
        assert store.stats.blobs == len(files)
        assert store.stats.store_bytes == len(files) * 1_600_000


async def test_many_finds_and_drops_at_once_agree(store: Store) -> None:
    digests = [Digest.of(bytes([at])) for at in range(40)]

    async def live(at: int) -> None:
        await store.put(digests[at], bytes([at]))
        assert await store.find(digests[at]) is not None
        if at % 2:
            await store.drop(digests[at])
            assert await store.find(digests[at]) is None

    async with asyncio.TaskGroup() as group:
        for at in range(40):
            group.create_task(live(at))
    assert store.stats.blobs == 20


async def test_a_blob_that_is_dropped_while_its_file_is_looked_at_is_not_adopted(store: Store) -> None:
    """At the start, files are hashed beside the work; one that lost its row and its file meanwhile is gone."""
    await store.put(DIGEST, DATA)
    shelf, dag = store._shelf, await store.dag(DIGEST)
    file, _, stamp = shelf.folder.open(DIGEST)
    file.close()
    await store.drop(DIGEST)
    await shelf.database.write(partial(shelf._adopted, DIGEST, dag, stamp))
    assert await store.find(DIGEST) is None


async def test_a_write_whose_caller_is_cancelled_is_finished(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest, asyncio.TaskGroup() as group:
        await ingest.write(0, DATA)
        await ingest.verified()
        commit = group.create_task(ingest.commit())
        for _ in range(3):
            await asyncio.sleep(0)
        commit.cancel()
    held = await store.find(DIGEST)
    files = [each for each in (store.folder / "blobs").rglob("*") if each.is_file()]
    assert len(files) == (1 if held else 0)


def _listing(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.iterdir()}


async def test_room_is_what_the_disk_takes_until_it_is_nearly_full(store: Store) -> None:
    free = shutil.disk_usage(store.folder).free
    assert await store.room() < free
