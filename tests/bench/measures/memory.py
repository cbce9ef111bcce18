"""Memory while much is streamed at once."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.bench.content import MIB, UpstreamStorage
from tests.bench.context import OURS, Bench
from tests.bench.processes import memory_kib
from tests.bench.pull import Puller
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import DISTRIBUTION, NAMESPACE, docker_registry, layermesh, pull_through_cache

_BLOBS: Final = 32
_BLOB_BYTES: Final = 256 * MIB
_BOUNDS: Final = {"cold": 200, "warm": 120}


def memory(bench: Bench) -> Iterator[Outcome]:
    """Peak resident memory (VmHWM, which the kernel keeps) of a node that streams 32 blobs of 256 MiB at once.

    The client asks for all of them at the same time and takes the bytes as fast as they come. Cold, the upstream is a
    docker-registry on loopback, and the peer distribution as a cache; then both are started anew, and stream what they
    hold. A second row holds how fast it went, for comparison with later runs.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        bench.say(f"making {_BLOBS} blobs")
        repository, tag = "bench/memory", "v1"
        storage.image(repository, tag, [_BLOB_BYTES] * _BLOBS)
        for kind, bound in _BOUNDS.items():
            peaks: dict[str, float] = {}
            rates: dict[str, float] = {}
            node = partial(layermesh, bench.work / "node", bench.work, upstream=url)
            contenders = {OURS: node, DISTRIBUTION: partial(pull_through_cache, url, bench.work)}
            for name, start in contenders.items():
                with ExitStack() as running:
                    servers, missing = bench.started(running, {name: start})
                    yield from missing
                    for server in servers.values():
                        bench.say(f"streaming {kind} blobs through {name}")
                        query = f"?ns={NAMESPACE}" if name == OURS else ""
                        pulled = Puller("127.0.0.1", server.port, repository, query).pull(tag, parallel=_BLOBS)
                        peaks[name] = memory_kib(server.process.pid)["VmHWM"] / 1024
                        rates[name] = pulled.bytes / pulled.seconds / 1e6
            what = f"{_BLOBS} {kind} blobs of {_BLOB_BYTES // MIB} MiB streamed at once"
            yield _row(bench, f"{what}: peak resident memory", "MiB", peaks, Aim.AT_MOST, bound)
            yield _row(bench, f"{what}: rate", "MB/s", rates, Aim.AT_LEAST, None)


def _row(bench: Bench, what: str, unit: str, samples: dict[str, float], aim: Aim, bound: float | None) -> Row:
    theirs = tuple(value for name, value in samples.items() if name != OURS)
    return Row(bench.name, what, unit, (samples[OURS],), aim, DISTRIBUTION if theirs else "", theirs, bound)
