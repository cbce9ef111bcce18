"""What IPFS tools read from a node: the archive of a file, and its blocks one by one."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

from node.cid import Cid, Codec
from tests.bench.content import MIB, UpstreamStorage
from tests.bench.context import Bench
from tests.bench.processes import memory_kib
from tests.bench.pull import Puller
from tests.bench.rows import Aim, MeasureError, Outcome, Row
from tests.bench.servers import NAMESPACE, Server, docker_registry, layermesh
from tests.bench.wire import Wire
from tests.node.archives import read_archive

_BLOB_BYTES = 512 * MIB
_LIMIT_S = 60
_NODE_MIB = 150.0


def gateway(bench: Bench) -> Iterator[Outcome]:
    """A public blob of 512 MiB that a node holds, read from its mesh listener over loopback.

    As a CAR: its size over the time from sending the GET to the last byte. As blocks: every leaf of 1 MiB by a raw
    request of its own, over one connection.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        image = storage.image("bench/gateway", "v1", [_BLOB_BYTES])
        url = f"http://127.0.0.1:{registry.port}"
        node = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=url))
        Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}").pull(image.tag)
        root = _cid(node, image.layers[0].digest)
        leaves = _leaves(node, root)
        archives = tuple(_archive(node, root) for _ in range(bench.rounds + 1))[1:]
        after_archives = memory_kib(node.process.pid)["VmHWM"] / 1024
        blocks = tuple(_blocks(node, leaves) for _ in range(bench.rounds + 1))[1:]
    yield Row(bench.name, "512 MiB file as CAR over loopback", "MB/s", archives, Aim.AT_LEAST, bound=300)
    what = "peak resident memory of the node that fetched the file and sent its CARs"
    yield Row(bench.name, what, "MiB", (after_archives,), Aim.AT_MOST, bound=_NODE_MIB)
    yield Row(bench.name, "raw blocks of 1 MiB, one connection", "requests/s", blocks, Aim.AT_LEAST, bound=500)


def _cid(node: Server, digest: str) -> str:
    """Under which CID the node holds a blob, once it has entered it in its store."""
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        with closing(HTTPConnection("127.0.0.1", node.admin, timeout=_LIMIT_S)) as connection:
            connection.request("GET", f"/api/where?ref={digest}")
            blob = json.load(connection.getresponse())["blobs"][0]
        if blob["cid"] is not None:
            return str(blob["cid"])
        time.sleep(0.02)
    raise MeasureError(f"the node did not enter {digest} within {_LIMIT_S} s")


def _leaves(node: Server, root: str) -> list[Cid]:
    """The leaves that the archive has, each of which was verified."""
    archive = read_archive(b"".join(map(bytes, _pieces(node, root))))
    return [cid for cid in archive.cids if cid.codec is Codec.RAW]


def _archive(node: Server, root: str) -> float:
    started = time.perf_counter()
    size = sum(len(piece) for piece in _pieces(node, root))
    return size / (time.perf_counter() - started) / 1e6


def _pieces(node: Server, root: str) -> Iterator[memoryview]:
    buffer = bytearray(MIB)
    with closing(HTTPConnection("127.0.0.1", node.mesh, timeout=_LIMIT_S)) as connection, memoryview(buffer) as view:
        connection.request("GET", f"/ipfs/{root}?format=car")
        answer = connection.getresponse()
        if answer.status != 200:
            raise MeasureError(f"the archive was answered {answer.status}")
        while count := answer.readinto(buffer):
            yield view[:count]


def _blocks(node: Server, leaves: list[Cid]) -> float:
    with closing(Wire("127.0.0.1", node.mesh)) as wire:
        started = time.perf_counter()
        for leaf in leaves:
            wire.send(f"/ipfs/{leaf}?format=raw")
            wire.head()
            wire.take_body()
        return len(leaves) / (time.perf_counter() - started)
