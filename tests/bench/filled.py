"""Stores that take long to fill, kept in the cache folder for the next run."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.context import Bench
from tests.bench.fill import fingerprint
from tests.bench.processes import running, tail
from tests.bench.rows import MeasureError
from tests.bench.servers import CACHE


def filled(bench: Bench, name: str, count: int, limit_s: float, *options: str) -> Path:
    """The store of this name with `count` blobs; `options` are those of `tests.bench.fill`.

    Raises:
        MeasureError: when filling it fails, or takes longer than `limit_s`.
    """
    kept = CACHE / f"{name}-{count}-{fingerprint()}"
    if kept.exists():
        return kept
    for old in (*CACHE.glob(f"{name}-{count}-*"), *CACHE.glob(f"{name}-growing-*")):
        shutil.rmtree(old)
    CACHE.mkdir(parents=True, exist_ok=True)
    bench.say(f"filling a store with {count:,} blobs")
    growing, log = CACHE / f"{name}-growing-{time.time_ns()}", bench.work / "fill.log"
    command = [sys.executable, "-m", "tests.bench.fill", *options, "--folder", str(growing), "--count", str(count)]
    with running(command, log) as process:
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise MeasureError(f"filling a store took longer than {limit_s:g} s: {tail(log)}") from None
    if status:
        raise MeasureError(f"filling a store: {tail(log)}")
    growing.rename(kept)
    return kept
