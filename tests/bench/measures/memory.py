"""Memory while much is streamed at once."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from tests.bench.content import MIB, UpstreamStorage
from tests.bench.context import Bench
from tests.bench.processes import memory_kib
from tests.bench.pull import Puller
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import NAMESPACE, docker_registry, layermesh

_BLOBS: Final = 16
_BLOB_BYTES: Final = 256 * MIB


def memory(bench: Bench) -> Iterator[Outcome]:
    """Peak resident memory (VmHWM, which the kernel keeps) of a node that streams 16 cold blobs of 256 MiB at once.

    The client asks for all of them at the same time and takes the bytes as fast as they come. The upstream is a
    docker-registry on loopback. A second row holds how fast it went, for comparison with later runs.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        bench.say(f"making {_BLOBS} blobs")
        image = storage.image("bench/memory", "v1", [_BLOB_BYTES] * _BLOBS)
        node = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=url))
        puller = Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}")
        bench.say("streaming")
        pulled = puller.pull(image.tag, parallel=_BLOBS)
        peak = memory_kib(node.process.pid)["VmHWM"] / 1024
    what = f"{_BLOBS} cold blobs of {_BLOB_BYTES // MIB} MiB streamed at once"
    yield Row(bench.name, f"{what}: peak resident memory", "MiB", (peak,), Aim.AT_MOST, bound=200)
    yield Row(bench.name, f"{what}: rate", "MB/s", (pulled.bytes / pulled.seconds / 1e6,), Aim.AT_LEAST)
