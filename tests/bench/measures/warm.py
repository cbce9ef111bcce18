"""What is already on this node's disk."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.bench.content import MANIFEST_TYPE, MIB, Image, UpstreamStorage
from tests.bench.context import OURS, Bench, Sampler, alternate
from tests.bench.load import bytes_per_second, cpu_per_gigabyte, requests_per_second
from tests.bench.pull import Puller
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import (
    DISTRIBUTION,
    NAMESPACE,
    Server,
    bare_aiohttp,
    distribution,
    docker_registry,
    layermesh,
    nginx,
    pull_through_cache,
    through,
)
from tests.bench.wire import Taking

_CONNECTIONS: Final = 16
_LAYER_BYTES: Final = 200_000
_LAYERS: Final = 8


def _warm_node(stack: ExitStack, bench: Bench, upstream: Server, image: Image) -> Server:
    """A node that has pulled `image` whole, with every byte checked once."""
    node = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=f"http://127.0.0.1:{upstream.port}"))
    puller = Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}")
    puller.pull(image.tag)
    puller.pull(image.tag, check=True)
    return node


def manifest(bench: Bench) -> Iterator[Outcome]:
    """Warm manifest GET by digest: requests per second that wrk gets with one thread and 16 keep-alive connections.

    The manifest names a config and eight layers, all of them here. Bare aiohttp sends the same bytes from memory.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        image = storage.image("bench/warm", "v1", [_LAYER_BYTES] * _LAYERS)
        file = storage.blob_file(image.manifest.digest)
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        bare = stack.enter_context(bare_aiohttp(file, MANIFEST_TYPE, file, bench.work))
        node = _warm_node(stack, bench, registry, image)

        def sampler(server: Server, target: str) -> Sampler:
            return partial(requests_per_second, server.port, target, _CONNECTIONS, 2 * bench.seconds, MANIFEST_TYPE)

        path = image.manifest_path()
        contenders = {
            OURS: sampler(node, through(path)),
            "docker-registry": sampler(registry, path),
            "bare aiohttp": sampler(bare, "/bytes"),
        }
        samples = alternate(bench.rounds, contenders)
    what = f"warm manifest GET by digest, {_CONNECTIONS} connections"
    for peer, bound in (("docker-registry", 8.0), ("bare aiohttp", None)):
        yield Row(bench.name, what, "requests/s", samples[OURS], Aim.RATIO_AT_LEAST, peer, samples[peer], bound)


def tag(bench: Bench) -> Iterator[Outcome]:
    """Warm manifest GET by tag, which both ask the upstream on loopback about each time: requests per second.

    As in `manifest`; the peer is distribution as a cache of the same upstream. Clients of ours that ask at the same
    moment share one question.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        image = storage.image("bench/tag", "v1", [_LAYER_BYTES] * _LAYERS)
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        servers, missing = bench.started(stack, {DISTRIBUTION: partial(pull_through_cache, url, bench.work)})
        yield from missing
        node = _warm_node(stack, bench, registry, image)
        path = f"/v2/{image.repository}/manifests/{image.tag}"
        amount = (_CONNECTIONS, 2 * bench.seconds, MANIFEST_TYPE)
        contenders: dict[str, Sampler] = {OURS: partial(requests_per_second, node.port, through(path), *amount)}
        for name, server in servers.items():
            Puller("127.0.0.1", server.port, image.repository).pull(image.tag)
            contenders[name] = partial(requests_per_second, server.port, path, *amount)
        samples = alternate(bench.rounds, contenders)
    what = f"warm manifest GET by tag, revalidated upstream, {_CONNECTIONS} connections"
    for peer in servers:
        yield Row(bench.name, what, "requests/s", samples[OURS], Aim.RATIO_AT_LEAST, peer, samples[peer], 3.0)


def blob(bench: Bench) -> Iterator[Outcome]:
    """Warm GET of a 64 MiB blob: bytes per second over 1, 4 and 16 keep-alive connections, with two clients.

    One discards (measures the server), one copies into a buffer (what any real client does); see `wire`. distribution
    serves the same blob from a storage of its own. CPU time, with the client that discards, on its own.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        image = storage.image("bench/blob", "v1", [64 * MIB])
        file = storage.blob_file(image.layers[0].digest)
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        peers = {
            "nginx": partial(nginx, file.parent, bench.work),
            DISTRIBUTION: partial(distribution, storage.root, bench.work),
        }
        servers, missing = bench.started(stack, peers)
        yield from missing
        path = image.blob_path(image.layers[0])
        targets = {
            OURS: (_warm_node(stack, bench, registry, image), through(path)),
            "docker-registry": (registry, path),
            **{name: (server, f"/{file.name}" if name == "nginx" else path) for name, server in servers.items()},
        }
        for taking in Taking:
            for connections in (1, 4, _CONNECTIONS):
                yield from _blob_rows(bench, targets, connections, taking)
        for connections in (1, _CONNECTIONS):
            yield from _cpu_rows(bench, targets, connections)


def _blob_rows(
    bench: Bench, targets: dict[str, tuple[Server, str]], connections: int, taking: Taking
) -> Iterator[Outcome]:
    def sampler(server: Server, target: str) -> Sampler:
        return lambda: bytes_per_second(server.port, target, connections, bench.seconds, taking) / 1e6

    bench.say(f"{connections} connections, the client {taking}")
    samples = alternate(bench.rounds, {name: sampler(*target) for name, target in targets.items()})
    what = f"warm 64 MiB blob GET, {connections} connections, client {taking}"
    for peer, bound in (("docker-registry", 1.0), (DISTRIBUTION, 1.2), ("nginx", 0.8)):
        if peer in samples:
            yield Row(bench.name, what, "MB/s", samples[OURS], Aim.RATIO_AT_LEAST, peer, samples[peer], bound)


def _cpu_rows(bench: Bench, targets: dict[str, tuple[Server, str]], connections: int) -> Iterator[Outcome]:
    """Without nginx, whose bytes are sent by processes of its own."""

    def sampler(server: Server, target: str) -> Sampler:
        return partial(cpu_per_gigabyte, server.process.pid, server.port, target, connections, bench.seconds)

    bench.say(f"{connections} connections, CPU time")
    samples = alternate(bench.rounds, {name: sampler(*targets[name]) for name in targets if name != "nginx"})
    what = f"warm 64 MiB blob GET, {connections} connections: CPU seconds per GB"
    for peer, bound in (("docker-registry", None), (DISTRIBUTION, 1.0)):
        if peer in samples:
            yield Row(bench.name, what, "s", samples[OURS], Aim.RATIO_AT_MOST, peer, samples[peer], bound)
