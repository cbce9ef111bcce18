"""The cluster's own repositories: their manifests, and pushing to them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.content import MANIFEST_TYPE, MIB, UpstreamStorage, pieces
from tests.bench.context import OURS, Bench, Sampler, alternate
from tests.bench.load import heads_per_second, requests_per_second
from tests.bench.processes import memory_kib
from tests.bench.push import digest_of, push_blob, push_image
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import DISTRIBUTION, Server, distribution, docker_registry, layermesh

_CONNECTIONS: Final = 16
_PUSH_BYTES: Final = 1024 * MIB
_KINDS: Final = (
    ("GET by digest", "digest", "GET", False, 2.5),
    ("GET by tag", "tag", "GET", False, 2.5),
    ("HEAD by tag", "tag", "HEAD", False, 2.5),
    ("GET by tag, a new connection each", "tag", "GET", True, 1.3),
)
"""What is asked, and how many times as many requests as distribution v3 are to be answered."""


def own(bench: Bench) -> Iterator[Outcome]:
    """Manifests of an own repository that were pushed here: requests per second, 16 connections, one thread.

    The peers serve the same image from their own storage.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        image = storage.image("bench/own", "v1", [200_000] * 8)
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        servers, missing = bench.started(stack, {DISTRIBUTION: partial(distribution, storage.root, bench.work)})
        yield from missing
        node = stack.enter_context(layermesh(bench.work / "node", bench.work))
        push_image(node.port, image, storage)
        contenders = {OURS: node, "docker-registry": registry, **servers}
        for what, selector, method, close, bound in _KINDS:
            path = image.manifest_path() if selector == "digest" else f"/v2/{image.repository}/manifests/{image.tag}"

            def sampler(server: Server, target: str = path, method: str = method, close: bool = close) -> Sampler:
                amount = (server.port, target, _CONNECTIONS, 2 * bench.seconds, MANIFEST_TYPE)
                if method == "HEAD":
                    return partial(heads_per_second, *amount)
                return partial(requests_per_second, *amount, close=close)

            bench.say(what)
            samples = alternate(bench.rounds, {name: sampler(server) for name, server in contenders.items()})
            bounds = {"docker-registry": 8.0 if method == "GET" and not close else None, DISTRIBUTION: bound}
            for peer in contenders.keys() - {OURS}:
                label = f"own manifest {what}, {_CONNECTIONS} connections"
                yield Row(
                    bench.name,
                    label,
                    "requests/s",
                    samples[OURS],
                    Aim.RATIO_AT_LEAST,
                    peer,
                    samples[peer],
                    bounds[peer],
                )


def push(bench: Bench) -> Iterator[Outcome]:
    """A push of 1 GiB by POST and PUT, its 201 included, against the slower of plain sha256 and `dd conv=fsync`.

    The ratio is of rates, so 0.4x means two and a half times as long. docker-registry and distribution, which sync
    nothing, push the same for comparison. A new blob each round; sha512 is shown besides.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        storage.root.mkdir(parents=True)
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        servers, missing = bench.started(stack, {DISTRIBUTION: partial(distribution, bench.work / "v3", bench.work)})
        yield from missing
        node = stack.enter_context(layermesh(bench.work / "node", bench.work))
        idle = memory_kib(node.process.pid)["VmHWM"] / 1024
        contenders = {OURS: node, "docker-registry": registry, **servers}
        rates: dict[str, list[float]] = {name: [] for name in (*contenders, "floor", "sha512")}
        for number in range(bench.rounds):
            data = [bytes(piece) for piece in pieces(f"push {number}", _PUSH_BYTES)]
            started = time.perf_counter()
            digest = digest_of("sha256", data)
            hashing = time.perf_counter() - started
            rates["floor"].append(_rate(max(hashing, _dd(bench.work / "dd"))))
            for name, server in contenders.items():
                rates[name].append(_rate(push_blob(server.port, "bench/push", digest, _PUSH_BYTES, data.__iter__)))
                bench.say(f"{name}: {rates[name][-1]:.0f} MB/s")
            longer = digest_of("sha512", data)
            rates["sha512"].append(_rate(push_blob(node.port, "bench/push", longer, _PUSH_BYTES, data.__iter__)))
        peak = memory_kib(node.process.pid)["VmHWM"] / 1024
    samples = {name: tuple(values) for name, values in rates.items()}
    what = "push of 1 GiB, durable"
    slower = "slower of sha256, dd fsync"
    yield Row(bench.name, what, "MB/s", samples[OURS], Aim.RATIO_AT_LEAST, slower, samples["floor"], 0.4)
    for peer in contenders.keys() - {OURS}:
        yield Row(bench.name, what, "MB/s", samples[OURS], Aim.RATIO_AT_LEAST, f"{peer} (no sync)", samples[peer])
    yield Row(bench.name, f"{what}, sha512", "MB/s", samples["sha512"], Aim.AT_LEAST)
    yield Row(bench.name, "resident memory added by pushes of 1 GiB: peak", "MiB", (peak - idle,), Aim.AT_MOST)


def _rate(seconds: float) -> float:
    return _PUSH_BYTES / seconds / 1e6


def _dd(file: Path) -> float:
    """The seconds that writing as many bytes takes, synced."""
    started = time.perf_counter()
    command = ["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={_PUSH_BYTES // MIB}", "conv=fsync"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    seconds = time.perf_counter() - started
    file.unlink()
    return seconds
