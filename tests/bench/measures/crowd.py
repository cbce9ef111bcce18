"""Many clients that ask for the same at once."""

import json
import selectors
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Final

from tests.bench.content import MANIFEST_TYPE, MIB, UpstreamStorage
from tests.bench.context import Bench
from tests.bench.processes import memory_kib
from tests.bench.rows import Aim, MeasureError, Outcome, Row
from tests.bench.servers import NAMESPACE, Server, docker_registry, layermesh, through
from tests.bench.wire import Wire

_CLIENTS: Final = 64
_BLOB_BYTES: Final = 256 * MIB
_LIMIT_S: Final = 120.0
_EVENLY: Final = 256 << 10
"""So much is taken from one socket before the next has its turn. Were all taken that is there, this one process would
favour the sockets that happen to hold most: measured so, the last of nginx's clients took 5 times as long as the first.
"""


def crowd(bench: Bench) -> Iterator[Outcome]:
    """64 clients ask for one cold blob of 256 MiB at once: how often upstream sends it, and how long the last waits.

    All bytes are dropped by the clients, which take them evenly (see `_EVENLY`). Copies are this node's own count of
    bytes from upstream over the blob's size.
    """
    copies, spread, peaks = [], [], []
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        image = storage.image("bench/crowd", "v1", [_BLOB_BYTES])
        for number in range(bench.rounds):
            folder = bench.work / f"node-{number}"
            with layermesh(folder, bench.work, upstream=f"http://127.0.0.1:{registry.port}") as node:
                with closing(Wire("127.0.0.1", node.port)) as wire:
                    wire.send(through(image.manifest_path()), accept=MANIFEST_TYPE)
                    wire.head()
                    small = len(wire.body())
                first, last = _all_at_once(node.port, through(image.blob_path(image.layers[0])))
                copies.append((_from_upstream(node) - small) / _BLOB_BYTES)
                spread.append(last / first)
                peaks.append(memory_kib(node.process.pid)["VmHWM"] / 1024)
            bench.say(f"first {first:.2f} s, last {last:.2f} s, {copies[-1]:.2f} copies")
    what = f"{_CLIENTS} clients, one cold blob of {_BLOB_BYTES // MIB} MiB"
    yield Row(bench.name, f"{what}: copies from {NAMESPACE}", "x", tuple(copies), Aim.AT_MOST, bound=1.01)
    yield Row(bench.name, f"{what}: last client's time over the first's", "x", tuple(spread), Aim.AT_MOST, bound=1.2)
    yield Row(bench.name, f"{what}: peak resident memory", "MiB", tuple(peaks), Aim.AT_MOST, bound=200)


def _all_at_once(port: int, target: str) -> tuple[float, float]:
    """The seconds until the first and until the last client has the whole blob."""
    ended: list[float] = []
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        wires = [stack.enter_context(closing(Wire("127.0.0.1", port))) for _ in range(_CLIENTS)]
        started = time.perf_counter()
        for wire in wires:
            wire.send(target)
            ready.register(wire.socket, selectors.EVENT_READ, wire)
        begun: set[int] = set()
        while len(ended) < _CLIENTS:
            if time.perf_counter() - started > _LIMIT_S:
                raise MeasureError(f"{len(ended)} of {_CLIENTS} clients were served in {_LIMIT_S:.0f} s")
            for key, _ in ready.select(1.0):
                wire = key.data
                if key.fd not in begun:
                    begun.add(key.fd)
                    wire.head()
                else:
                    wire.take_some(_EVENLY)
                wire.wake_less()
                if not wire.left:
                    ended.append(time.perf_counter() - started)
                    ready.unregister(wire.socket)
    return ended[0], ended[-1]


def _from_upstream(node: Server) -> int:
    with closing(HTTPConnection("127.0.0.1", node.admin, timeout=10)) as connection:
        connection.request("GET", "/api/status")
        return int(json.load(connection.getresponse())["fetched_bytes"].get("upstream", 0))
