"""What another node has: two nodes on loopback, the second gets a blob from the first."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from tests.bench.content import MANIFEST_TYPE, MIB, Image, UpstreamStorage
from tests.bench.context import Bench
from tests.bench.plain import ready_memory
from tests.bench.pull import Puller
from tests.bench.rows import Aim, MeasureError, Outcome, Row
from tests.bench.servers import NAMESPACE, Server, docker_registry, layermesh, through
from tests.bench.wire import Wire

BLOB_BYTES: Final = 512 * MIB
_MEMORY_BYTES: Final = 560 * MIB
"""Written and removed right before, so that memory is ready: see `write_plainly`. Once 1 GiB is free, this kind of
virtual machine gives it back to its host, in mid-run; so nothing else is removed between the rounds."""
_KNOWN_LIMIT_S: Final = 30.0


def peer(bench: Bench) -> Iterator[Outcome]:
    """A blob of 512 MiB from a peer over loopback, verified: its size over the time the second node's client waits.

    From sending the GET to the last byte; the second node is new each round and has pulled the manifest and the config
    (also from the peer); a plain write right before makes memory ready. Members stream while they verify, with TLS or
    without; what comes from a stranger is verified whole before the first byte is sent.
    """
    for kind, bound in (("member", 400), ("member over TLS", None), ("stranger", 400)):
        samples = tuple(_rates(bench, kind))
        what = f"512 MiB blob from a peer ({kind}) over loopback, verified"
        yield Row(bench.name, what, "MB/s", samples, Aim.AT_LEAST, bound=bound)


def _rates(bench: Bench, kind: str) -> Iterator[float]:
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        image = storage.image("bench/peer", "v1", [BLOB_BYTES])
        flags = [] if kind == "stranger" else ["--secret-file", str(secret_file(bench.work))]
        if tls := kind == "member over TLS":
            flags += ["--config", str(_tls_file(bench.work))]
        first = stack.enter_context(layermesh(bench.work / kind, bench.work, upstream=url, more=flags))
        Puller("127.0.0.1", first.port, image.repository, f"?ns={NAMESPACE}").pull(image.tag)
        join = ["--join", f"{'https' if tls else 'http'}://127.0.0.1:{first.mesh}", *flags]
        for number in range(bench.rounds + 1):
            folder = bench.work / f"{kind}-{number}"  # stays: see `_MEMORY_BYTES`
            with layermesh(folder, bench.work, upstream=url, more=join) as second:
                seconds = fetch(second, image, bench.work, check=number == 0)
            if number:
                bench.say(f"{kind}: {BLOB_BYTES / seconds / 1e6:.0f} MB/s")
                yield BLOB_BYTES / seconds / 1e6


def secret_file(work: Path) -> Path:
    """A file with a cluster secret."""
    file = work / "secret"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file


def _tls_file(work: Path) -> Path:
    file = work / "tls.toml"
    file.write_text("[cluster]\ntls = true\n")
    return file


def fetch(node: Server, image: Image, work: Path, check: bool) -> float:
    for blob in (image.manifest, image.config, image.layers[0]):
        _wait_known(node, blob.digest)
    with closing(Wire("127.0.0.1", node.port)) as wire:
        for path in (image.manifest_path(), image.blob_path(image.config)):
            wire.send(through(path), accept=MANIFEST_TYPE)
            wire.head()
            wire.body()
        ready_memory(work / "plain", _MEMORY_BYTES)
        started = time.perf_counter()
        wire.send(through(image.blob_path(image.layers[0])))
        source = wire.head().headers.get("layermesh-source")
        if check and f"sha256:{hashlib.sha256(wire.body()).hexdigest()}" != image.layers[0].digest:
            raise MeasureError("wrong bytes from a peer")
        wire.take_body()
        seconds = time.perf_counter() - started
    if source != "peer":
        raise MeasureError(f"the blob came from {source}, not from the peer")
    return seconds


def _wait_known(node: Server, digest: str) -> None:
    """Ask the node until it knows a peer that holds the blob."""
    deadline = time.monotonic() + _KNOWN_LIMIT_S
    while time.monotonic() < deadline:
        with closing(HTTPConnection("127.0.0.1", node.admin, timeout=5)) as connection:
            connection.request("GET", f"/api/where?ref={digest}")
            answer = connection.getresponse()
            if answer.status == 200 and json.load(answer)["peers"]:
                return
        time.sleep(0.02)
    raise MeasureError(f"the second node did not learn of {digest} within {_KNOWN_LIMIT_S:.0f} s")
