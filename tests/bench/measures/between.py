"""From one node to another, beside the ways that others have: Kubo to Kubo, and nginx over a link."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.content import MIB, Image, UpstreamStorage
from tests.bench.context import OURS, Bench, alternate
from tests.bench.kubo import KUBO, added, cpu_of, kubo_daemon
from tests.bench.link import FAR, Link, shaped_link
from tests.bench.measures.peer import fetch, secret_file
from tests.bench.processes import cpu_seconds, within
from tests.bench.rows import Aim, MeasureError, Missing, MissingToolError, Outcome, Row
from tests.bench.servers import Server, docker_registry, layermesh, nginx, through
from tests.kubo.daemon import Kubo

_BYTES: Final = 512 * MIB
_LINK_BYTES: Final = 256 * MIB
_GIB: Final = 1 << 30
_KNOWN_LIMIT_S: Final = 30.0


def between(bench: Bench) -> Iterator[Outcome]:
    """A blob of 512 MiB from member to member over loopback, verified and stored, beside Kubo to Kubo by `pin/add`.

    The receiving node and the receiving Kubo are new each round. CPU time is that of both ends together.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        image = storage.image("bench/between", "v1", [_BYTES])
        secret = ["--secret-file", str(secret_file(bench.work))]
        url = f"http://127.0.0.1:{registry.port}"
        first = stack.enter_context(layermesh(bench.work / "first", bench.work, upstream=url, more=secret))
        _pulled(first, image)
        try:
            seed = stack.enter_context(kubo_daemon(bench.work / "seed"))
        except MissingToolError as error:
            yield Missing(bench.name, error.peer, error.provides)
            return
        cid = added(seed, storage.blob_file(image.layers[0].digest))
        cpu: dict[str, list[float]] = {OURS: [], KUBO: []}
        join = ["--join", f"http://127.0.0.1:{first.mesh}", *secret]
        numbers = iter(range(1000))

        def ours() -> float:
            folder = bench.work / f"second-{next(numbers)}"
            with layermesh(folder, bench.work, upstream=url, more=join) as second:
                pids = (first.process.pid, second.process.pid)
                before = sum(map(cpu_seconds, pids))
                seconds = fetch(second, image, bench.work, check=False)
                cpu[OURS].append((sum(map(cpu_seconds, pids)) - before) * _GIB / _BYTES)
            return _BYTES / seconds / 1e6

        def kubos() -> float:
            with kubo_daemon(bench.work / f"leech-{next(numbers)}") as leech:
                leech.meet(seed)
                os.sync()
                before = cpu_of(seed) + cpu_of(leech)
                seconds = _pinned(leech, cid)
                cpu[KUBO].append((cpu_of(seed) + cpu_of(leech) - before) * _GIB / _BYTES)
            return _BYTES / seconds / 1e6

        samples = alternate(bench.rounds, {OURS: ours, KUBO: kubos})
    what = "512 MiB from one to another over loopback, verified"
    yield Row(bench.name, what, "MB/s", samples[OURS], Aim.RATIO_AT_LEAST, KUBO, samples[KUBO], 1.0)
    spent = {name: tuple(values[1:]) for name, values in cpu.items()}  # the first round warms up
    yield Row(bench.name, f"{what}: CPU seconds per GiB, both ends", "s", spent[OURS], Aim.AT_MOST, bound=3.5)
    yield Row(bench.name, f"{what}: CPU seconds per GiB", "s", spent[OURS], Aim.RATIO_AT_MOST, KUBO, spent[KUBO])


def between_link(bench: Bench) -> Iterator[Outcome]:
    """A blob of 256 MiB over 1 Gbit/s, from member to member, verified, beside nginx: from the GET to the last byte."""
    try:
        with ExitStack() as stack:
            storage = UpstreamStorage(bench.work / "upstream")
            image = storage.image("bench/link", "v1", [_LINK_BYTES])
            shaped = stack.enter_context(shaped_link("1gbit"))
            samples = alternate(bench.rounds, _over_link(stack, bench, storage, image, shaped))
    except MissingToolError as error:
        yield Missing(bench.name, error.peer, error.provides)
        return
    what = "256 MiB from one node to another over 1 Gbit/s, verified"
    yield Row(bench.name, what, "MB/s", samples[OURS], Aim.RATIO_AT_LEAST, "nginx", samples["nginx"], 0.95)


def _over_link(
    stack: ExitStack, bench: Bench, storage: UpstreamStorage, image: Image, shaped: Link
) -> dict[str, Callable[[], float]]:
    secret = ["--secret-file", str(secret_file(bench.work))]
    layer = image.layers[0]
    file = storage.blob_file(layer.digest)
    web = stack.enter_context(nginx(file.parent, bench.work, host=FAR, namespace=shaped.far))
    registry = stack.enter_context(docker_registry(storage.root, bench.work, namespace=shaped.far))
    url = f"http://127.0.0.1:{registry.port}"
    far = layermesh(bench.work / "far", bench.work, upstream=url, namespace=shaped.far, mesh_host=FAR, more=secret)
    first = stack.enter_context(far)
    for target in (image.manifest_path(), image.blob_path(image.config), image.blob_path(layer)):
        _get_within(shaped.far, "127.0.0.1", first.port, through(target))
    numbers = iter(range(1000))
    join = ["--join", f"http://{FAR}:{first.mesh}", *secret]

    def ours() -> float:
        folder = bench.work / f"near-{next(numbers)}"
        with layermesh(folder, bench.work, upstream=url, namespace=shaped.near, more=join) as second:
            for blob in (image.manifest, image.config, layer):
                _wait_known(shaped.near, second, blob.digest)
            for target in (image.manifest_path(), image.blob_path(image.config)):
                _get_within(shaped.near, "127.0.0.1", second.port, through(target))
            seconds = _get_within(shaped.near, "127.0.0.1", second.port, through(image.blob_path(layer)))
        return _LINK_BYTES / seconds / 1e6

    def plainly() -> float:
        return _LINK_BYTES / _get_within(shaped.near, FAR, web.port, f"/{file.name}") / 1e6

    return {OURS: ours, "nginx": plainly}


def _pulled(node: Server, image: Image) -> None:
    get = partial(_get_within, None, "127.0.0.1", node.port)
    for target in (image.manifest_path(), image.blob_path(image.config), image.blob_path(image.layers[0])):
        get(through(target))


def _get_within(namespace: str | None, host: str, port: int, target: str) -> float:
    command = within(namespace, [sys.executable, "-m", "tests.bench.get", host, str(port), target])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise MeasureError(f"{target} from {host}:{port}: {done.stderr[-600:]}")
    return float(done.stdout)


def _wait_known(namespace: str, node: Server, digest: str) -> None:
    """Ask the node until it knows a peer that holds the blob."""
    program = str(Path(sys.executable).with_name("layermesh"))
    command = within(namespace, [program, "where", digest, "--json", "--admin", f"127.0.0.1:{node.admin}"])
    deadline = time.monotonic() + _KNOWN_LIMIT_S
    while time.monotonic() < deadline:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if not done.returncode and json.loads(done.stdout)["peers"]:
            return
        time.sleep(0.05)
    raise MeasureError(f"the near node did not learn of {digest} within {_KNOWN_LIMIT_S:.0f} s")


def _pinned(leech: Kubo, cid: str) -> float:
    started = time.perf_counter()
    leech.call("pin/add", cid)
    return time.perf_counter() - started
