"""A pull as containerd does it: HEAD by tag, manifest by digest, config, then the layers, three at a time.

Connections are kept and reused, one for each parallel download. Runs as a module so that it can be started inside a
network namespace; prints one JSON object.
"""

import argparse
import dataclasses
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import SimpleQueue

from tests.bench.content import MANIFEST_TYPE
from tests.bench.rows import MeasureError
from tests.bench.wire import Wire

_PARALLEL = 3


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull took.

    `head_s`: from sending the HEAD by tag to its answer. `first_byte_s`: for each layer in order, from sending its GET
    to the first byte of its body.
    """

    seconds: float
    bytes: int
    head_s: float
    first_byte_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Puller:
    """A client of one registry or mirror; `query` is appended to each request target (`?ns=...` or nothing)."""

    host: str
    port: int
    repository: str
    query: str = ""

    def pull(self, tag: str, *, parallel: int = _PARALLEL, check: bool = False) -> Pulled:
        """Pull an image, dropping the bytes, or hashing them if `check`.

        Raises:
            MeasureError: when an answer is not the right one.
        """
        with ExitStack() as stack:
            started = time.perf_counter()
            wires = [stack.enter_context(closing(Wire(self.host, self.port)))]
            head_s, layers = self._resolve(wires[0], tag)
            wires += [stack.enter_context(closing(Wire(self.host, self.port))) for _ in range(parallel - 1)]
            free: SimpleQueue[Wire] = SimpleQueue()
            for wire in wires:
                free.put(wire)

            def fetch(layer: dict[str, str | int]) -> float:
                wire = free.get()
                try:
                    return self._blob(wire, layer, check)
                finally:
                    free.put(wire)

            with ThreadPoolExecutor(parallel) as pool:
                firsts = tuple(pool.map(fetch, layers))
            seconds = time.perf_counter() - started
            return Pulled(seconds, sum(int(layer["size"]) for layer in layers), head_s, firsts)

    def _resolve(self, wire: Wire, tag: str) -> tuple[float, list[dict[str, str | int]]]:
        sent = time.perf_counter()
        wire.send(f"/v2/{self.repository}/manifests/{tag}{self.query}", method="HEAD", accept=MANIFEST_TYPE)
        digest = wire.head(bodiless=True).headers["docker-content-digest"]
        head_s = time.perf_counter() - sent
        wire.send(f"/v2/{self.repository}/manifests/{digest}{self.query}", accept=MANIFEST_TYPE)
        wire.head()
        text = wire.body()
        if digest != f"sha256:{hashlib.sha256(text).hexdigest()}":
            raise MeasureError(f"{self.host}:{self.port} sent another manifest than {digest}")
        manifest = json.loads(text)
        self._blob(wire, manifest["config"], check=False)
        layers: list[dict[str, str | int]] = manifest["layers"]
        return head_s, layers

    def _blob(self, wire: Wire, descriptor: dict[str, str | int], check: bool) -> float:
        sent = time.perf_counter()
        wire.send(f"/v2/{self.repository}/blobs/{descriptor['digest']}{self.query}")
        head = wire.head()
        if head.length != descriptor["size"]:
            raise MeasureError(f"{descriptor['digest']}: {head.length} bytes promised, not {descriptor['size']}")
        first = wire.first_byte() - sent
        if check and f"sha256:{hashlib.sha256(wire.body()).hexdigest()}" != descriptor["digest"]:
            raise MeasureError(f"{self.host}:{self.port} sent wrong bytes for {descriptor['digest']}")
        wire.take_body()
        return first


def main() -> None:
    """Pull once and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--query", default="")
    parser.add_argument("--parallel", type=int, default=_PARALLEL)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    puller = Puller(options.host, options.port, options.repository, options.query)
    print(json.dumps(dataclasses.asdict(puller.pull(options.tag, parallel=options.parallel, check=options.check))))


if __name__ == "__main__":
    main()
