"""Writing a blob into the store: digest hash, leaf hashes, disk; without fsync."""

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from node.digest import Digest
from node.reference import Repository
from node.source import Wanted
from node.store import Store, open_store
from tests.bench.content import MIB, pieces
from tests.bench.context import OURS, Bench, rotations
from tests.bench.plain import write_plainly
from tests.bench.rows import Aim, MeasureError, Outcome, Row

_BYTES: Final = 512 * MIB
"""With twice as much, a virtual machine was seen to give memory back to its host in mid-run, which cost up to 1 s."""
_STEP: Final = 256 << 10
_PLAIN: Final = "plain sha256"
_TWICE: Final = "sha256 in two threads"
_WRITTEN: Final = "plain write, fresh memory"
_REPOSITORY: Final = Repository("docker.io", "bench/ingest")


def ingest(bench: Bench) -> Iterator[Outcome]:
    """Store.ingest of 512 MiB from memory, expect() to commit() done, against hashlib.sha256 over the same memory.

    Both in one process of its own, in alternation, over pieces of 256 KiB; the blob is dropped each time. Two such
    passes in two threads are the floor: the two hashes alone, without a file (near one pass if two cores are free). The
    same bytes are written plainly right before, which is shown, so that no round pays for memory that is new.
    """
    options = ["--folder", str(bench.work), "--rounds", str(bench.rounds)]
    command = [sys.executable, "-m", "tests.bench.measures.ingest", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise MeasureError(f"ingest: {done.stderr[-600:]}")
    samples = {name: tuple(values) for name, values in json.loads(done.stdout).items()}
    what = "ingest of 512 MiB, both hashes, without fsync: wall time"
    for peer, bound in ((_PLAIN, 1.7), (_TWICE, None), (_WRITTEN, None)):
        yield Row(bench.name, what, "s", samples[OURS], Aim.RATIO_AT_MOST, peer, samples[peer], bound)


async def _measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    whole = b"".join(pieces("ingest", _BYTES))
    data = [whole[offset : offset + _STEP] for offset in range(0, _BYTES, _STEP)]
    del whole
    samples: dict[str, list[float]] = {_PLAIN: [], OURS: [], _TWICE: []}
    written: list[float] = []
    digest = Digest.parse(f"sha256:{_hash(data)}")
    async with open_store(folder / "store") as store:
        for number, order in enumerate(rotations(rounds + 1, list(samples))):
            for name in order:
                if name == OURS:
                    written.append(write_plainly(folder / "plain", data))
                started = time.perf_counter()
                if name == OURS:
                    await _ingest(store, digest, data)
                else:
                    _threads(1 if name == _PLAIN else 2, data)
                seconds = time.perf_counter() - started
                if number:
                    samples[name].append(seconds)
                await store.drop(digest)
    return {**samples, _WRITTEN: written[1:]}


async def _ingest(store: Store, digest: Digest, data: list[bytes]) -> None:
    async with store.ingest(Wanted(_REPOSITORY, digest, _BYTES)) as growing:
        growing.expect(_BYTES)
        for index, piece in enumerate(data):
            await growing.write(index * _STEP, piece)
        await growing.commit(None)


def _threads(count: int, data: list[bytes]) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(_hash, [data] * count))


def _hash(data: list[bytes]) -> str:
    hasher = hashlib.sha256()
    for piece in data:
        hasher.update(piece)
    return hasher.hexdigest()


def main() -> None:
    """Measure and print the samples as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(_measure(options.folder, options.rounds))))


if __name__ == "__main__":
    main()
