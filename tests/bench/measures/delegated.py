"""A Kubo that fetches from a node by delegated routing and plain HTTP, beside one that does by bitswap from another."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import pytest

from facade.cli.kubo_settings import Role, kubo_settings
from facade.settings import Address
from tests.bench.content import MIB, Image, UpstreamStorage
from tests.bench.context import OURS, Bench, alternate
from tests.bench.processes import free_port
from tests.bench.pull import Puller
from tests.bench.rows import Aim, MeasureError, MissingToolError, Outcome, Row
from tests.bench.servers import NAMESPACE, docker_registry, layermesh
from tests.kubo.daemon import Kubo, built_kubo, running_kubo

_BYTES: Final = 256 * MIB
_BITSWAP: Final = "Kubo by bitswap"
_LIMIT: Final = "15s"
_TRIES: Final = 4
"""On a busy machine Kubo may lose sight of its only peer, and look for it again a minute later."""
_KNOWN_LIMIT_S: Final = 10.0
_PROFILE: Final = {
    "cid-version": "1",
    "raw-leaves": "true",
    "chunker": "size-1048576",
    "max-file-links": "1024",
    "pin": "true",
}


def delegated(bench: Bench) -> Iterator[Outcome]:
    """256 MiB that a fresh Kubo pins, and the first byte that it reads of it, on loopback; it has nothing before.

    Ours: it has no peer, and its one router is the node's sidecar. The other one is connected to a Kubo that has the
    same file before the time is taken.
    """
    try:
        built_kubo()
    except pytest.skip.Exception as missing:
        raise MissingToolError("Kubo 0.43.0", "make kubo") from missing
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        image = storage.image("bench/delegated", "v1", [_BYTES])
        sidecar = Address("127.0.0.1", free_port())
        url = f"http://127.0.0.1:{registry.port}"
        more = ["--kubo-sidecar", str(sidecar)]
        node = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=url, more=more))
        Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}").pull(image.tag)
        seed = stack.enter_context(running_kubo(bench.work / "seed"))
        root = _added(seed, storage.blob_file(image.layers[0].digest))
        _wait_root(node.admin, image, root)
        fetchers: dict[str, Callable[[], AbstractContextManager[Kubo]]] = {
            OURS: partial(_fetching, bench.work, sidecar),
            _BITSWAP: partial(_connected, bench.work, seed),
        }
        bench.say("pinning")
        pinned = alternate(bench.rounds, {name: partial(_pin, each, root) for name, each in fetchers.items()})
        bench.say("first byte")
        begun = alternate(bench.rounds, {name: partial(_first_byte, each, root) for name, each in fetchers.items()})
    what = "256 MiB pinned by a fresh Kubo"
    yield Row(bench.name, what, "s", pinned[OURS], Aim.RATIO_AT_MOST, _BITSWAP, pinned[_BITSWAP], bound=1.0)
    what = "first byte of 256 MiB that a fresh Kubo reads"
    yield Row(bench.name, what, "ms", begun[OURS], Aim.AT_MOST, bound=150)
    yield Row(bench.name, what, "ms", begun[OURS], Aim.RATIO_AT_MOST, _BITSWAP, begun[_BITSWAP])


def _wait_root(admin: int, image: Image, root: str) -> None:
    """Wait until the node has the layer, by the root that Kubo has it by."""
    deadline = time.monotonic() + _KNOWN_LIMIT_S
    said = None
    while said is None and time.monotonic() < deadline:
        with closing(HTTPConnection("127.0.0.1", admin, timeout=10)) as connection:
            connection.request("GET", f"/api/where?ref={image.layers[0].digest}")
            said = json.load(connection.getresponse())["blobs"][0]["cid"]
        time.sleep(0.02)
    if said != root:
        raise MeasureError(f"Kubo says {root} of what the node says is {said}")


def _added(kubo: Kubo, file: Path) -> str:
    """Have a Kubo keep a file; its root."""
    options = "&".join(f"{name}={value}" for name, value in _PROFILE.items())
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
    head += b"Content-Type: application/octet-stream\r\n\r\n"
    tail = b"\r\n--b--\r\n"
    with closing(HTTPConnection(kubo.rpc.host or "", kubo.rpc.port, timeout=120)) as connection:
        connection.putrequest("POST", f"/api/v0/add?{options}")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(len(head) + file.stat().st_size + len(tail)))
        connection.endheaders(head)
        with file.open("rb") as data:
            connection.send(data)
        connection.send(tail)
        return str(json.loads(connection.getresponse().read().splitlines()[-1])["Hash"])


@contextmanager
def _fetching(work: Path, sidecar: Address) -> Iterator[Kubo]:
    with _fresh(work, running_kubo(work / "ours", settings=kubo_settings(Role.FETCH, sidecar).nested())) as kubo:
        yield kubo


@contextmanager
def _connected(work: Path, seed: Kubo) -> Iterator[Kubo]:
    with _fresh(work, running_kubo(work / "theirs")) as kubo:
        kubo.meet(seed)
        yield kubo


@contextmanager
def _fresh(work: Path, running: AbstractContextManager[Kubo]) -> Iterator[Kubo]:
    """A Kubo that has nothing yet, and whose repository is gone afterwards."""
    with running as kubo:
        yield kubo
    shutil.rmtree(kubo.repo)


def _pin(fetcher: Callable[[], AbstractContextManager[Kubo]], root: str) -> float:
    with fetcher() as kubo:
        started = time.perf_counter()
        for _ in range(_TRIES):
            if kubo.ask("pin/add", root, timeout=_LIMIT)[0] == 200:
                return time.perf_counter() - started
    raise MeasureError(f"{kubo.repo.name}: Kubo did not pin it in {_TRIES} times {_LIMIT}")


def _first_byte(fetcher: Callable[[], AbstractContextManager[Kubo]], root: str) -> float:
    with (
        fetcher() as kubo,
        closing(HTTPConnection(kubo.rpc.host or "", kubo.rpc.port, timeout=60)) as connection,
    ):
        started = time.perf_counter()
        connection.request("POST", f"/api/v0/cat?arg={root}&timeout={_LIMIT}")
        if len(connection.getresponse().read(1)) != 1:
            raise MeasureError("Kubo read nothing")
        return 1000 * (time.perf_counter() - started)
