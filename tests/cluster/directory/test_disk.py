"""The kept logs, across starts, gaps and damage."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from cluster.config import Limits
from cluster.directory.directory import Directory
from cluster.directory.disk import LogCache, open_cache
from cluster.directory.log import Update
from cluster.messages import BlobLine, DropLine, Line, LogPage, RecordLine
from node.digest import Digest
from node.errors import FullError, InvalidError
from node.records import Record, stamp_at

PEER, LOG, READER, NOW = "a" * 32, "1" * 32, "0" * 32, 1_000_000.0


def line(seq: int, number: int) -> BlobLine:
    return BlobLine(seq, f"sha256:{number:064x}", b"\x01\x55\x12\x20" + number.to_bytes(32, "big"), 5, "public")


def late(seq: int, name: str, ahead_s: float = 3600.0) -> RecordLine:
    stamp = stamp_at(NOW + ahead_s)
    return RecordLine(seq, "team/app", "tag", name, str(digest(1)), 5, "", "", "", stamp, "9" * 32, 0)


def page(*lines: Line, upto: int) -> LogPage:
    return LogPage(v=1, log=LOG, upto=upto, more=False, lines=list(lines))


def digest(number: int) -> Digest:
    return Digest.parse(f"sha256:{number:064x}")


async def merge_nothing(records: Sequence[Record], told_by: str, most: int) -> int:
    assert not records
    return 0


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[LogCache]:
    async with open_cache(tmp_path, READER) as opened:
        yield opened


async def kept(cache: LogCache, peer: str = PEER) -> set[str]:
    return {each.digest async for lines in cache.lines(peer) for each in lines if isinstance(each, BlobLine)}


async def test_a_log_is_read_on_by_the_next_start(tmp_path: Path) -> None:
    async with open_cache(tmp_path, READER) as cache:
        directory = Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: READER)
        log = await directory.open(PEER, proven=True)
        await directory.take(PEER, log, page(line(1, 1), line(2, 2), upto=2))
        await directory.take(PEER, log, page(DropLine(3, str(digest(1))), upto=3))
    async with open_cache(tmp_path, READER) as cache:
        log = await Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: READER).open(PEER, proven=True)
        assert (log.log_id, log.since, len(log), log.whole) == (LOG, 3, 1, False)
        assert log.holding(digest(2)) is not None


async def test_what_a_stranger_said_is_not_a_members_word_after_all(cache: LogCache) -> None:
    directory = Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: READER)
    log = await directory.open(PEER, proven=False)
    await directory.take(PEER, log, page(line(1, 1), upto=1))
    for again in (directory, Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: READER)):
        assert len(await again.open(PEER, proven=True)) == 0


async def test_after_a_gap_nothing_is_kept_rather_than_half(cache: LogCache) -> None:
    await cache.keep(PEER, Update(True, (line(1, 1),), LOG, 0, 1), NOW, proven=True)
    await cache.keep(PEER, Update(False, (line(9, 2),), LOG, 8, 9), NOW, proven=True)
    assert await cache.find(PEER, proven=True) is None
    assert await kept(cache) == set()


async def test_a_new_log_replaces_the_old(cache: LogCache) -> None:
    await cache.keep(PEER, Update(True, (line(1, 1),), LOG, 0, 1), NOW, proven=True)
    await cache.keep(PEER, Update(True, (line(1, 2),), "2" * 32, 0, 1), NOW, proven=True)
    assert await kept(cache) == {str(digest(2))}


async def test_the_peers_read_last_are_kept(cache: LogCache) -> None:
    for number, peer in enumerate(("a" * 32, "b" * 32, "c" * 32)):
        update = Update(True, tuple(line(seq, seq) for seq in range(1, 4)), LOG, 0, 3)
        await cache.keep(peer, update, NOW + number, proven=False)
    await cache.prune(most_lines=7)
    assert [await cache.find(peer, proven=False) is None for peer in ("a" * 32, "b" * 32, "c" * 32)] == [
        True,
        False,
        False,
    ]
    assert await kept(cache, "a" * 32) == set()
    await cache.prune(most_lines=100, keep=1)
    assert await cache.find("b" * 32, proven=False) is None


async def test_too_many_entries_are_forgotten_in_memory_and_on_disk(cache: LogCache) -> None:
    directory = Directory(cache, Limits(entries_per_peer=2), lambda: NOW, merge_nothing, lambda: READER)
    log = await directory.open(PEER, proven=False)
    with pytest.raises(InvalidError, match="more than 2 entries"):
        await directory.take(PEER, log, page(*(line(seq, seq) for seq in range(1, 4)), upto=3))
    assert list(directory.holdings(digest(1))) == []
    assert await cache.find(PEER, proven=False) is None


async def test_whom_nobody_looks_for_is_forgotten(cache: LogCache) -> None:
    directory = Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: READER)
    for peer in (PEER, "b" * 32):
        await directory.take(peer, await directory.open(peer, proven=False), page(line(1, 1), upto=1))
    directory.keep_only(["b" * 32])
    assert [peer for peer, _, _ in directory.holdings(digest(1))] == ["b" * 32]
    await directory.take("b" * 32, await directory.open("b" * 32, proven=False), page(upto=2))
    assert await cache.find(PEER, proven=False) is None


async def test_without_a_cache_everything_works_in_memory() -> None:
    directory = Directory(None, Limits(), lambda: NOW, merge_nothing, lambda: READER)
    log = await directory.open(PEER, proven=False)
    await directory.take(PEER, log, page(line(1, 1), upto=1))
    await directory.forget(PEER)
    assert list(directory.holdings(digest(1))) == []


async def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "cluster.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 4000)
    async with open_cache(tmp_path, READER) as cache:
        await cache.keep(PEER, Update(True, (line(1, 1),), LOG, 0, 1), NOW, proven=True)
        assert await kept(cache) == {str(digest(1))}


async def test_another_catalog_has_to_be_told_everything_again(tmp_path: Path) -> None:
    async with open_cache(tmp_path, READER) as cache:
        await cache.keep(PEER, Update(True, (line(1, 1),), LOG, 0, 1), NOW, proven=True)
    async with open_cache(tmp_path, "9" * 32) as cache:
        assert await cache.find(PEER, proven=True) is None


async def test_a_catalog_that_begins_anew_meanwhile_is_told_everything_again(cache: LogCache) -> None:
    reader = [READER]
    directory = Directory(cache, Limits(), lambda: NOW, merge_nothing, lambda: reader[0])
    log = await directory.open(PEER, proven=True)
    await directory.take(PEER, log, page(line(1, 1), upto=1))
    reader[0] = "9" * 32
    await directory.take(PEER, log, page(line(2, 2), upto=2))
    assert (log.log_id, log.since, len(log)) == ("", 0, 0)
    await directory.take(PEER, log, page(line(1, 1), line(2, 2), upto=2))
    assert (log.since, len(log)) == (2, 2)


async def test_what_a_clock_ahead_wrote_counts_once_its_time_has_come_also_after_a_restart(tmp_path: Path) -> None:
    merged: list[str] = []
    now = NOW

    async def merge(records: Sequence[Record], told_by: str, most: int) -> int:
        merged.extend(record.name for record in records)
        return len(records)

    async with open_cache(tmp_path, READER) as cache:
        directory = Directory(cache, Limits(), lambda: now, merge, lambda: READER)
        log = await directory.open(PEER, proven=True)
        await directory.take(PEER, log, page(late(1, "early", 3600), late(2, "last", 7200), upto=2))
        assert "2 of the records" in (directory.note(PEER) or "") and "7200 s" in (directory.note(PEER) or "")
        now = NOW + 3600
        await directory.take(PEER, log, page(upto=2))
        assert merged == ["early"]
    async with open_cache(tmp_path, READER) as cache:
        directory = Directory(cache, Limits(), lambda: now, merge, lambda: READER)
        log = await directory.open(PEER, proven=True)
        now = NOW + 7200
        await directory.take(PEER, log, page(upto=2))
        assert merged == ["early", "last"] and directory.note(PEER) is None
    async with open_cache(tmp_path, READER) as cache:
        assert [lines async for lines in cache.lines(PEER)] == []


async def test_a_log_with_too_many_records_of_the_future_waits_for_it(cache: LogCache) -> None:
    merged: list[str] = []
    now = NOW

    async def merge(records: Sequence[Record], told_by: str, most: int) -> int:
        merged.extend(record.name for record in records)
        return len(records)

    directory = Directory(cache, Limits(late_records_per_peer=1), lambda: now, merge, lambda: READER)
    log = await directory.open(PEER, proven=True)
    await directory.take(PEER, log, page(late(1, "a"), upto=1))
    with pytest.raises(FullError, match="more than 1 "):
        await directory.take(PEER, log, page(late(2, "b"), upto=2))
    assert log.since == 1
    now = NOW + 3600
    await directory.take(PEER, log, page(late(2, "b"), upto=2))
    assert (log.since, merged) == (2, ["a", "b"])


async def test_whose_a_blob_is_is_known_before_who_has_it_and_what_a_tag_means_after() -> None:
    """Who asks for a tag finds the bytes, and who asks under another name is told nothing of what is an own blob."""
    manifest = RecordLine(1, "team/app", "manifest", str(digest(1)), str(digest(1)), 5, "", "", "", 7, "9" * 32, 0)
    tag = RecordLine(3, "team/app", "tag", "v1", str(digest(1)), 5, "", "", "", 7, "9" * 32, 0)
    known: list[tuple[list[str], bool]] = []
    fails = [FullError("no room"), None]

    async def merge(records: Sequence[Record], told_by: str, most: int) -> int:
        known.append(([str(record.kind) for record in records], log.holding(digest(1)) is not None))
        if known[-1][0] == ["tag"] and (failure := fails.pop(0)):
            raise failure
        return len(records)

    directory = Directory(None, Limits(), lambda: NOW, merge, lambda: READER)
    log = await directory.open(PEER, proven=True)
    told = page(manifest, line(2, 1), tag, upto=3)
    with pytest.raises(FullError):
        await directory.take(PEER, log, told)
    assert known == [(["manifest"], False), (["tag"], True)] and log.since == 0
    await directory.take(PEER, log, told)
    assert known[2:] == [(["manifest"], True), (["tag"], True)] and log.since == 3
