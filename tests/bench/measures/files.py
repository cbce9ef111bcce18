"""Images as files: how fast `layermesh export` writes a CAR, `layermesh import` reads it, and in how much memory."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.content import MIB, UpstreamStorage
from tests.bench.context import Bench
from tests.bench.plain import ready_memory
from tests.bench.processes import memory_kib
from tests.bench.rows import Aim, MeasureError, Outcome, Row
from tests.bench.servers import Server, docker_registry, layermesh

_BYTES: Final = 1024 * MIB
_AT_LEAST: Final = 300.0
_MEMORY_MIB: Final = 120.0
_NODE_MIB: Final = 150.0
"""What the node may have had, whatever the image's size."""
_LIMIT_S: Final = 120.0
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Run:
    """One command: bytes of the image a second of wall time, and the most memory it had."""

    rate: float
    peak_mib: float


def files(bench: Bench) -> Iterator[Outcome]:
    """An image of one layer of 1 GiB: exported to a CAR, and imported by a node that has nothing.

    The whole command is timed, with its start and what it makes durable; the image is on the node's disk, and the CAR
    is read from the page cache. Each import has a node of its own, which is stopped afterwards.
    """
    storage = UpstreamStorage(bench.work / "upstream")
    bench.say("making 1 GiB")
    image = storage.image("bench/files", "v1", [_BYTES])
    ref, car = f"docker.io/{image.repository}:{image.tag}", bench.work / "image.car"
    runs: dict[str, list[_Run]] = {"export": [], "import": []}
    with docker_registry(storage.root, bench.work) as registry:
        upstream = f"http://127.0.0.1:{registry.port}"
        with layermesh(bench.work / "node", bench.work, upstream=upstream) as node:
            _run(node, "export", ref, str(car))  # fetches the layer
            for number in range(bench.rounds):
                bench.say(f"export {number}")
                car.unlink()
                runs["export"].append(_run(node, "export", ref, str(car)))
            giving = memory_kib(node.process.pid)["VmHWM"] / 1024
    taking: list[float] = []
    for number in range(bench.rounds):
        bench.say(f"import {number}")
        with layermesh(bench.work / f"node-{number}", bench.work) as node:
            ready_memory(bench.work / "plain", _BYTES)
            runs["import"].append(_run(node, "import", str(car)))
            taking.append(memory_kib(node.process.pid)["VmHWM"] / 1024)
    for name, done in runs.items():
        rates, peaks = tuple(run.rate for run in done), tuple(run.peak_mib for run in done)
        yield Row(bench.name, f"{name} of a CAR with a layer of 1 GiB", "MB/s", rates, Aim.AT_LEAST, bound=_AT_LEAST)
        what = f"{name} of a CAR with a layer of 1 GiB: peak resident memory of the command"
        yield Row(bench.name, what, "MiB", peaks, Aim.AT_MOST, bound=_MEMORY_MIB)
    for who, peaks in (("fetches and exports", (giving,)), ("imports", tuple(taking))):
        what = f"peak resident memory of the node that {who} it"
        yield Row(bench.name, what, "MiB", peaks, Aim.AT_MOST, bound=_NODE_MIB)


def _run(node: Server, *command: str) -> _Run:
    layermesh_ = str(Path(sys.executable).with_name("layermesh"))
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [layermesh_, *command, "--admin", f"127.0.0.1:{node.admin}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            peak = max(peak, _resident_kib(process.pid))
            if time.perf_counter() - started > _LIMIT_S:
                process.kill()
            time.sleep(_LOOK_S)
        seconds = time.perf_counter() - started
        assert process.stderr is not None
        if process.returncode:
            raise MeasureError(f"{command[0]}: {process.stderr.read().decode()[-600:]}")
    return _Run(_BYTES / seconds / 1e6, peak / 1024)


def _resident_kib(pid: int) -> int:
    try:
        return memory_kib(pid)["VmHWM"]
    except (OSError, KeyError):  # it ends just now
        return 0
