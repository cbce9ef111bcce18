"""Writing a blob into the store: digest hash, leaf hashes, disk; without fsync."""

import argparse
import asyncio
import hashlib
import json
import mmap
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node.digest import Digest
from node.reference import Repository
from node.source import Wanted
from node.store import open_store
from tests.bench.content import MIB, pieces
from tests.bench.context import OURS, Bench, rotations
from tests.bench.rows import Aim, MeasureError, Outcome, Row

_BYTES: Final = 1024 * MIB
_STEP: Final = 256 << 10
_PLAIN: Final = "plain sha256"
_REPOSITORY: Final = Repository("docker.io", "bench/ingest")


def ingest(bench: Bench) -> Iterator[Outcome]:
    """Store.ingest of 1 GiB from memory, expect() to commit() done, against hashlib.sha256 over the same memory.

    Both in one process of its own, in alternation, in steps of 256 KiB; the blob is dropped after each round.
    """
    options = ["--folder", str(bench.work), "--rounds", str(bench.rounds)]
    command = [sys.executable, "-m", "tests.bench.measures.ingest", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise MeasureError(f"ingest: {done.stderr[-600:]}")
    samples = {name: tuple(values) for name, values in json.loads(done.stdout).items()}
    what = "ingest of 1 GiB, both hashes, without fsync: wall time"
    yield Row(bench.name, what, "s", samples[OURS], Aim.RATIO_AT_MOST, _PLAIN, samples[_PLAIN], 1.7)


async def _measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    source = folder / "source"
    with source.open("wb") as file:
        file.writelines(pieces("ingest", _BYTES))
    samples: dict[str, list[float]] = {_PLAIN: [], OURS: []}
    with source.open("rb") as file:
        flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
        data = memoryview(mmap.mmap(file.fileno(), _BYTES, flags=flags, prot=mmap.PROT_READ))
    async with open_store(folder / "store") as store:
        _, digest = _plain(data)
        for number, order in enumerate(rotations(rounds + 1, list(samples))):
            for name in order:
                seconds = _plain(data)[0] if name == _PLAIN else 0.0
                if name == OURS:
                    started = time.perf_counter()
                    async with store.ingest(Wanted(_REPOSITORY, digest, _BYTES)) as growing:
                        growing.expect(_BYTES)
                        for offset in range(0, _BYTES, _STEP):
                            await growing.write(offset, data[offset : offset + _STEP])
                        await growing.commit(None)
                    seconds = time.perf_counter() - started
                    await store.drop(digest)
                if number:
                    samples[name].append(seconds)
    return samples


def _plain(data: memoryview) -> tuple[float, Digest]:
    started = time.perf_counter()
    hasher = hashlib.sha256()
    for offset in range(0, len(data), _STEP):
        hasher.update(data[offset : offset + _STEP])
    hex_part = hasher.hexdigest()
    return time.perf_counter() - started, Digest.parse(f"sha256:{hex_part}")


def main() -> None:
    """Measure and print the samples as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(_measure(options.folder, options.rounds))))


if __name__ == "__main__":
    main()
