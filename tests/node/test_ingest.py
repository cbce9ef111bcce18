"""A blob on its way in: any order, any source, right bytes or nothing."""

import asyncio
import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.blobs import Ingest
from node.digest import Algorithm, Digest
from node.errors import FullError, MismatchError, StartError
from node.source import Wanted
from node.store import Store, open_store
from node.unixfs import LEAF_BYTES, build_dag
from tests.node.contents import ALPINE, MIB, content, mounted, wanted

DATA = content(3 * MIB + 5)


def incoming(store: Store) -> list[str]:
    return [each.name for each in (store.folder / "incoming").iterdir()]


async def fill(ingest: Ingest, data: bytes, piece: int = 200_000) -> None:
    for at in range(0, len(data), piece):
        await ingest.write(at, data[at : at + piece])


async def test_a_blob_that_was_committed_can_be_read(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await fill(ingest, DATA)
        holding = await ingest.commit()
    async with store.read(Digest.of(DATA)) as blob:
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA
    assert await store.find(holding.digest) == holding
    assert incoming(store) == []


async def test_what_is_not_committed_leaves_nothing(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await fill(ingest, DATA)
        await ingest.verified()
    assert await store.find(Digest.of(DATA)) is None
    assert incoming(store) == []


async def test_a_fetch_that_is_cancelled_leaves_nothing(store: Store) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), store.ingest(wanted(DATA)) as ingest:
            await ingest.write(0, DATA[:-1])
            await ingest.verified()
    assert incoming(store) == []


async def test_the_file_is_made_for_the_first_bytes_and_for_none_when_none_may_come(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        assert await store._shelf.workers.on_disk(incoming, store) == []
        await ingest.write(0, DATA[:1])
        await ingest.flushed()
        assert len(incoming(store)) == 1
    async with store.ingest(wanted(b"")) as ingest:
        await ingest.verified()
        assert len(incoming(store)) == 1


async def test_a_first_piece_is_readable_before_any_other_comes(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await ingest.write(0, b"x" * 10)
        assert await ingest.wait_prefix(0) == 10
        assert os.pread(ingest.fileno(), 100, 0) == b"x" * 10


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, len(DATA) - 1), max_size=12), order=st.randoms(use_true_random=False))
def test_pieces_may_come_in_any_order_and_again(tmp_path: Path, cuts: list[int], order: random.Random) -> None:
    edges = [0, *sorted(set(cuts)), len(DATA)]
    parts = list(itertools.pairwise(edges)) * 2
    order.shuffle(parts)

    async def scene() -> None:
        async with open_store(tmp_path / "data") as store:
            await store.drop(Digest.of(DATA))
            async with store.ingest(wanted(DATA)) as ingest:
                for start, stop in parts:
                    await ingest.write(start, memoryview(DATA)[start:stop])
                holding = await ingest.commit()
            assert (await store.dag(holding.digest)) is not None

    asyncio.run(scene())


async def test_bytes_that_are_there_are_not_overwritten(store: Store) -> None:
    """Their hash may have been taken already: other bytes in their place would be kept unverified."""
    data = content(2 * MIB)
    async with store.ingest(wanted(data)) as ingest:
        await ingest.write(0, data[:MIB])
        await ingest.write(0, bytes(MIB))
        await ingest.write(MIB, data[MIB:])
        await ingest.write(100, bytes(MIB))
        await ingest.commit()
    async with store.read(Digest.of(data)) as blob:
        assert os.pread(blob.fileno(), len(data), 0) == data


async def test_wrong_bytes_are_a_mismatch_and_a_restart_begins_anew(store: Store) -> None:
    wrong = DATA[:-1] + b"?"
    async with store.ingest(wanted(DATA)) as ingest:
        with pytest.raises(MismatchError, match="hash to something else"):
            await fill(ingest, wrong)
            await ingest.verified()
        assert isinstance(ingest.failure, MismatchError)
        ingest.restart()
        assert (ingest.prefix, ingest.epoch) == (0, 1)
        await fill(ingest, DATA)
        await ingest.commit()
    assert await store.find(Digest.of(DATA)) is not None
    assert incoming(store) == []


async def test_who_reads_the_old_file_keeps_it_over_a_restart(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await ingest.write(0, b"old bytes")
        await ingest.wait_prefix(0)
        mine = os.dup(ingest.fileno())
        ingest.restart()
        await ingest.write(0, DATA[:9])
        await ingest.wait_prefix(0)
        assert os.pread(mine, 9, 0) == b"old bytes"
        assert os.pread(ingest.fileno(), 9, 0) == DATA[:9]
        os.close(mine)


async def test_who_waits_for_bytes_is_woken_by_a_restart(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest, asyncio.timeout(5), asyncio.TaskGroup() as group:
        prefix = group.create_task(ingest.wait_prefix(100))
        verdict = group.create_task(_verdict(ingest))
        await asyncio.sleep(0)
        ingest.restart()
        assert await prefix == 0
        assert "thrown away" in await verdict


async def _verdict(ingest: Ingest) -> str:
    try:
        await ingest.verified()
    except MismatchError as error:
        return str(error)
    return "verified"


async def test_thousands_of_small_pieces_may_wait_for_the_file(store: Store) -> None:
    data = content(2 * MIB)
    async with store.ingest(wanted(data)) as ingest:
        await fill(ingest, data, 200)
        await ingest.commit()
    assert await store.find(Digest.of(data)) is not None


async def test_a_missing_byte_is_a_mismatch(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await fill(ingest, DATA[:-1])
        with pytest.raises(MismatchError, match=f"only {len(DATA) - 1} of its {len(DATA)} bytes"):
            await ingest.commit()


async def test_a_byte_too_many_is_a_mismatch(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        with pytest.raises(MismatchError, match="its size is"):
            await ingest.write(len(DATA) - 1, b"??")


async def test_a_size_that_contradicts_the_promised_one_is_a_mismatch(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        with pytest.raises(MismatchError, match="were promised"):
            ingest.expect(len(DATA) + 1)


async def test_a_size_that_nobody_knew_is_the_one_that_came(store: Store) -> None:
    async with store.ingest(wanted(DATA, sized=False)) as ingest:
        await fill(ingest, DATA)
        assert (await ingest.commit()).size == len(DATA)


@pytest.mark.parametrize("data", [b"", b"x", content(MIB), content(MIB + 1)], ids=len)
@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_edges_of_size_and_both_algorithms_are_kept(store: Store, data: bytes, algorithm: Algorithm) -> None:
    digest = Digest.of(data, algorithm)
    holding = await store.put(digest, data)
    assert await store.load(digest) == data
    dag = await store.dag(digest)
    assert dag is not None
    assert (holding.cid, holding.size) == (dag.root, len(data))


async def test_a_dag_that_the_source_verified_is_taken(store: Store) -> None:
    data = content(2 * MIB)
    dag = build_dag(len(data), b"".join(bytes.fromhex(Digest.of(data[at : at + MIB]).hex) for at in (0, MIB)))
    async with store.ingest(wanted(data)) as ingest:
        await ingest.trust(dag)
        await ingest.write(MIB, data[MIB:])
        await ingest.write(0, data[:MIB])
        assert (await ingest.commit()).cid == dag.root


@pytest.mark.parametrize("how", ["bytes before", "another source", "half a leaf"])
async def test_a_lying_dag_is_not_kept_when_its_bytes_came_otherwise(store: Store, how: str) -> None:
    """The digest agrees, but the DAG says something else of the leaves: the mapping must be our own."""
    data = content(2 * MIB)
    lie = build_dag(len(data), bytes(64))
    async with store.ingest(wanted(data)) as ingest:
        if how == "bytes before":
            await ingest.write(0, data[:10])
        await ingest.trust(lie)
        await ingest.write(0, data[:MIB])
        if how == "another source":
            ingest.expect(len(data))
        await ingest.write(MIB, data[MIB : MIB + 100] if how == "half a leaf" else data[MIB:])
        await ingest.write(MIB + 100, data[MIB + 100 :])
        assert (await ingest.commit()).cid != lie.root


async def test_two_ingests_of_one_blob_both_succeed(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as one, store.ingest(wanted(DATA)) as two:
        await fill(one, DATA)
        await fill(two, DATA)
        assert await one.commit() == await two.commit()
    assert (store.stats.blobs, incoming(store)) == (1, [])


async def test_a_growing_blob_is_behind_its_hashes_by_no_more_than_a_few_mebibytes(store: Store) -> None:
    data = content(24 * MIB)
    async with store.ingest(wanted(data)) as ingest:
        await fill(ingest, data, MIB)
        assert ingest.prefix == len(data)  # the last write returns when everything is in the file
        await ingest.commit()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs: run the tests as root")
async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "8m"):
        async with open_store(small / "data") as store:
            kept = await store.put(Digest.of(b"kept"), b"kept")
            data = content(16 * MIB)
            with pytest.raises(FullError, match="No space left"):
                async with store.ingest(wanted(data)) as ingest:
                    await fill(ingest, data, MIB)
            assert await store.find(kept.digest) == kept
            assert incoming(store) == []
            another = content(MIB, "another")
            await store.put(Digest.of(another), another)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs: run the tests as root")
async def test_a_disk_too_full_to_start_on_is_said_with_what_to_do(tmp_path: Path) -> None:
    with mounted(tmp_path, "4m"):
        async with open_store(tmp_path / "data") as store:
            await store.put(Digest.of(b"kept"), b"kept")
        filling = await asyncio.to_thread((tmp_path / "filling").open, "wb", 0)
        with filling, pytest.raises(OSError, match="No space left"):
            while True:
                await asyncio.to_thread(filling.write, bytes(4096))
        with pytest.raises(StartError, match="free some room"):
            async with open_store(tmp_path / "data"):
                pass
        (tmp_path / "filling").unlink()
        async with open_store(tmp_path / "data") as store:
            assert await store.load(Digest.of(b"kept")) == b"kept"


async def test_many_ingests_at_once_keep_little_in_memory(store: Store) -> None:
    async def one(seed: int) -> None:
        data = content(4 * MIB, str(seed))
        async with store.ingest(wanted(data)) as ingest:
            await fill(ingest, data)
            await ingest.commit()

    async with asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(one(seed))
    assert store.stats.blobs == 8
    assert store.stats.store_bytes == 8 * 4 * MIB


async def test_a_wanted_size_that_is_wrong_shows_at_commit(store: Store) -> None:
    async with store.ingest(Wanted(ALPINE, Digest.of(DATA), len(DATA) - LEAF_BYTES)) as ingest:
        with pytest.raises(MismatchError):
            await fill(ingest, DATA)


async def test_a_file_that_cannot_be_made_is_said_to_who_writes(store: Store) -> None:
    (store.folder / "incoming").rmdir()
    async with store.ingest(wanted(DATA)) as ingest:
        with pytest.raises(FullError, match="cannot take it"):
            await fill(ingest, DATA)
        assert isinstance(ingest.failure, FullError)
        with pytest.raises(FullError):
            await ingest.verified()
    with pytest.raises(FullError):
        await store.put(Digest.of(b""), b"")


async def test_an_ingest_that_is_left_or_restarted_at_once_leaves_nothing(store: Store) -> None:
    async with store.ingest(wanted(DATA)):
        pass
    async with store.ingest(wanted(DATA)) as ingest:
        ingest.restart()
    assert incoming(store) == []


async def test_bytes_written_before_the_file_is_there_are_kept(store: Store) -> None:
    async with store.ingest(wanted(DATA)) as ingest:
        await ingest.write(0, DATA[:10])
        ingest.restart()
        await fill(ingest, DATA)
        await ingest.commit()
    async with store.read(Digest.of(DATA)) as blob:
        assert os.pread(blob.fileno(), len(DATA), 0) == DATA
