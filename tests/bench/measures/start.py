"""From nothing to a node that serves, and what it costs to stand idle."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.context import Bench
from tests.bench.filled import filled
from tests.bench.processes import free_port, memory_kib, running, wait_ready
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import node_command

_BLOBS: Final = 100_000
_IDLE_S: Final = 5.0
_FILL_LIMIT_S: Final = 900


def start(bench: Bench) -> Iterator[Outcome]:
    """From spawning `layermesh up` to the first 200 of /readyz (asked every 5 ms), and VmRSS five seconds later.

    mDNS is on, on loopback. The store is empty (a new folder each time), or holds 100,000 blobs written by the node's
    own code; that one is kept in the cache folder for the next run. Files are in the page cache.
    """
    rounds = range(bench.rounds + 1)
    empty = [_start(bench, bench.work / f"empty-{number}", idle=number == 1) for number in rounds]
    store = filled(bench, "store", _BLOBS, _FILL_LIMIT_S)
    full = [_start(bench, store, idle=number == 1) for number in rounds]
    for what, bound, started in (("empty store", 1.0, empty), (f"{_BLOBS:,} blobs", 2.0, full)):
        seconds = tuple(one[0] for one in started[1:])
        yield Row(bench.name, f"start to ready, {what}", "s", seconds, Aim.AT_MOST, bound=bound)
        yield Row(bench.name, f"resident memory, idle, {what}", "MiB", (started[1][1],), Aim.AT_MOST, bound=80)


def _start(bench: Bench, data: Path, idle: bool) -> tuple[float, float]:
    """Seconds to ready, and MiB resident."""
    ports = (free_port(), free_port(), free_port())
    log = bench.work / "start.log"
    command = node_command(data, ports, ["--mdns-interface", "127.0.0.1"])
    started = time.perf_counter()
    with running(command, log) as process:
        wait_ready(process, ports[2], "/readyz", log)
        seconds = time.perf_counter() - started
        if idle:
            time.sleep(_IDLE_S)
        return seconds, memory_kib(process.pid)["VmRSS"] / 1024
