"""Leaves that threads write to a growing blob, past the event loop: right bytes or nothing here as well."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from node.blobs import Ingest
from node.digest import Digest
from node.errors import FullError, MismatchError
from node.hashing import DigestPass, Piece
from node.source import LeafWriter
from node.store import Store, open_store
from node.unixfs import LEAF_BYTES, Dag, build_dag
from tests.node.contents import MIB, content, mounted, wanted

DATA = content(5 * MIB + 7)


def dag_of(data: bytes) -> Dag:
    leaves = (data[at : at + LEAF_BYTES] for at in range(0, len(data), LEAF_BYTES))
    return build_dag(len(data), b"".join(bytes.fromhex(Digest.of(leaf).hex) for leaf in leaves))


async def trusted(ingest: Ingest, data: bytes = DATA) -> LeafWriter:
    place = await ingest.trust(dag_of(data))
    assert place is not None
    return place


async def put_leaf(ingest: Ingest, place: LeafWriter, index: int, data: bytes = DATA) -> None:
    leaf = data[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
    await asyncio.to_thread(place, index * LEAF_BYTES, memoryview(leaf))
    await ingest.landed(index * LEAF_BYTES, len(leaf))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 0, 1, 4, 2], [1, 1, 0, 0, 5, 2, 3, 4, 4]], ids=str)
async def test_leaves_may_land_in_any_order_and_again(store: Store, order: list[int]) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        for index in order:
            await put_leaf(ingest, place, index)
        assert (await ingest.commit()).cid == dag_of(DATA).root
    async with store.read(Digest.of(DATA)) as blob:
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA


async def test_many_threads_may_place_at_once(store: Store) -> None:
    data = content(40 * MIB)
    async with store.ingest(wanted(data)) as ingest, asyncio.timeout(20):
        place = await trusted(ingest, data)
        async with asyncio.TaskGroup() as group:
            for index in range(40):
                group.create_task(put_leaf(ingest, place, index, data))
        await ingest.commit()
    async with store.read(Digest.of(data)) as blob:
        assert os.pread(blob.fileno(), len(data), 0) == data


async def test_leaves_of_a_lying_dag_are_a_mismatch(store: Store) -> None:
    lie = bytearray(DATA)
    lie[2 * MIB] ^= 1
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest, bytes(lie))
        with pytest.raises(MismatchError, match="hash to something else"):
            for index in range(6):
                await put_leaf(ingest, place, index, bytes(lie))
            await ingest.commit()
    assert await store.find(Digest.of(DATA)) is None


@pytest.mark.parametrize(
    "after",
    [Ingest.restart, lambda ingest: ingest.expect(len(DATA))],
    ids=["restart", "another source"],
)
async def test_nobody_places_a_leaf_any_more(store: Store, after: Callable[[Ingest], None]) -> None:
    """What another source brings is hashed when it comes: nothing may land on it later."""
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        await put_leaf(ingest, place, 0)
        after(ingest)
        with pytest.raises(MismatchError):
            await asyncio.to_thread(place, MIB, memoryview(DATA)[MIB : 2 * MIB])
        with pytest.raises(MismatchError):
            await ingest.landed(MIB, MIB)
        for at in range(0, len(DATA), MIB):
            await ingest.write(at, DATA[at : at + MIB])
        assert (await ingest.commit()).cid == dag_of(DATA).root


async def test_whoever_was_trusted_before_places_nothing_beside_the_next(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        late = await trusted(ingest, bytes(len(DATA)))
        place = await trusted(ingest)
        with pytest.raises(MismatchError):
            await asyncio.to_thread(late, 0, memoryview(bytes(MIB)))
        for index in range(6):
            await put_leaf(ingest, place, index)
        await ingest.commit()


async def test_bytes_that_came_before_let_nobody_place_leaves(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await ingest.write(0, DATA[:10])
        assert await ingest.trust(dag_of(DATA)) is None


async def test_a_leaf_on_its_way_when_another_source_takes_over_ends_the_attempt(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await trusted(ingest)
        ingest._growing._placing += 1  # a thread is between the check and the write
        ingest.expect(len(DATA))
        ingest._growing._placing -= 1
        with pytest.raises(MismatchError, match="two sources"):
            await ingest.write(0, DATA[:MIB])
        ingest.restart()
        for at in range(0, len(DATA), MIB):
            await ingest.write(at, DATA[at : at + MIB])
        await ingest.commit()


async def test_the_file_stays_open_while_a_leaf_is_written(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        await put_leaf(ingest, place, 0)
        growing = ingest._growing
        growing._placing += 1
        growing.end()
        await asyncio.sleep(0.05)
        assert not growing.closed
        growing._placing -= 1
        growing._tell()
        async with asyncio.timeout(5):
            while not growing.closed:
                await asyncio.sleep(0.01)


async def known(store: Store, data: bytes = DATA) -> None:
    """A blob that was here: the store remembers which CID it computed of it."""
    await store.put(Digest.of(data), data)
    await store.drop(Digest.of(data))


@pytest.fixture
def slow_hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Hashes wait for the digest while this is not set."""
    may, take = Event(), DigestPass.take
    may.set()

    def waiting(self: DigestPass, piece: Piece) -> None:
        may.wait(20)
        take(self, piece)

    monkeypatch.setattr(DigestPass, "take", waiting)
    yield may
    may.set()


def hashed(ingest: Ingest) -> int:
    return ingest._growing._digest_pass.done


async def test_leaves_under_a_cid_that_this_node_computed_are_hashed_once(store: Store) -> None:
    await known(store)
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        for index in (5, 3, 0, 1, 4, 2):
            await put_leaf(ingest, place, index)
        await ingest.verified()
        assert (await ingest.commit()).cid == dag_of(DATA).root
        assert not hashed(ingest)
    async with store.read(Digest.of(DATA)) as blob:
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA


async def test_the_one_leaf_of_a_small_blob_is_hashed_once(store: Store) -> None:
    data = DATA[: MIB - 5]
    async with store.ingest(wanted(data)) as ingest:
        await put_leaf(ingest, await trusted(ingest, data), 0, data)
        await ingest.commit()
        assert not hashed(ingest)


@pytest.mark.parametrize("other", [DATA[:-1] + b"x", DATA[:-1]], ids=["other bytes", "another size"])
async def test_another_cid_than_this_node_computed_proves_nothing(store: Store, other: bytes) -> None:
    await known(store)
    async with store.ingest(wanted(DATA, sized=False)) as ingest:
        place = await trusted(ingest, other)
        with pytest.raises(MismatchError, match="hash to something else"):
            for index in range(6):
                await put_leaf(ingest, place, index, other)
            await ingest.commit()


async def test_what_another_source_brings_is_hashed_whatever_was_proved_before(store: Store) -> None:
    await known(store)
    async with store.ingest(wanted(DATA)) as ingest:
        await put_leaf(ingest, await trusted(ingest), 0)
        ingest.expect(len(DATA))
        with pytest.raises(MismatchError, match="hash to something else"):
            for at in range(MIB, len(DATA), MIB):
                await ingest.write(at, bytes(len(DATA[at : at + MIB])))
            await ingest.commit()


async def test_what_no_thread_placed_is_hashed_though_its_leaves_are_promised(store: Store) -> None:
    await known(store)
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        for index in range(5):
            await put_leaf(ingest, place, index)
        with pytest.raises(MismatchError, match="hash to something else"):
            await ingest.write(5 * MIB, bytes(7))
            await ingest.commit()


@pytest.mark.parametrize("again", [Ingest.restart, lambda ingest: None], ids=["restart", "another DAG"])
async def test_a_late_word_of_a_leaf_counts_for_nothing_once_others_are_trusted(
    store: Store, again: Callable[[Ingest], None]
) -> None:
    await known(store)
    async with store.ingest(wanted(DATA)) as ingest:
        other = bytes(len(DATA))
        old = await trusted(ingest, other)
        await asyncio.to_thread(old, 0, memoryview(other)[:MIB])
        again(ingest)
        place = await trusted(ingest)
        with pytest.raises(MismatchError, match="not trusted any more"):
            await ingest.landed(0, MIB)
        for index in range(6):
            await put_leaf(ingest, place, index)
        await ingest.commit()
    async with store.read(Digest.of(DATA)) as blob:
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA


async def test_nobody_waits_until_what_was_proved_is_hashed(store: Store, slow_hashing: Event) -> None:
    """Another source goes on behind far more than may lag: it is hashed beside."""
    data = content(40 * MIB)
    await known(store, data)
    async with store.ingest(wanted(data)) as ingest, asyncio.timeout(20):
        place = await trusted(ingest, data)
        for index in range(39):
            await put_leaf(ingest, place, index, data)
        slow_hashing.clear()
        ingest.expect(len(data))
        await ingest.write(39 * MIB, data[39 * MIB : 39 * MIB + 10])
        slow_hashing.set()
        await ingest.write(39 * MIB + 10, data[39 * MIB + 10 :])
        await ingest.commit()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs: run the tests as root")
async def test_a_full_disk_is_said_to_who_places(tmp_path: Path) -> None:
    data = content(16 * MIB)
    with mounted(tmp_path, "8m"):
        async with open_store(tmp_path / "data") as store:
            with pytest.raises(FullError, match="No space left"):
                async with store.ingest(wanted(data)) as ingest:
                    place = await trusted(ingest, data)
                    for index in range(16):
                        await put_leaf(ingest, place, index, data)


async def test_what_was_placed_but_never_landed_vouches_for_nothing(store: Store) -> None:
    """Its bytes were kept to be hashed; another source's, which are in the file now, must be hashed instead."""
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        await asyncio.to_thread(place, MIB, memoryview(DATA)[MIB : 2 * MIB])
        ingest.expect(len(DATA))
        with pytest.raises(MismatchError, match="hash to something else"):
            for at in range(0, len(DATA), MIB):
                await ingest.write(at, DATA[at : at + MIB] if at != MIB else bytes(MIB))
            await ingest.commit()


async def test_a_disk_that_failed_is_no_mismatch_to_who_places(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        place = await trusted(ingest)
        ingest._growing._digesting.error = OSError(5, "Input/output error")
        ingest._growing._settle()
        with pytest.raises(FullError, match="Input/output error"):
            await asyncio.to_thread(place, 0, memoryview(DATA)[:MIB])
