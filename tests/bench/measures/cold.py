"""What only the upstream has: a pull by a client whose node is empty."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.bench.content import MIB, Image, UpstreamStorage
from tests.bench.context import OURS, Bench, rotations
from tests.bench.link import DELAY_MS, FAR, RATE, RELAY_PORT, Link, delayed, shaped_link
from tests.bench.load import bytes_per_second
from tests.bench.processes import free_port, within
from tests.bench.pull import Pulled, Puller
from tests.bench.rows import Aim, MeasureError, Missing, MissingToolError, Outcome, Row
from tests.bench.servers import DISTRIBUTION, NAMESPACE, bare_proxy, docker_registry, layermesh, pull_through_cache
from tests.bench.wire import Taking, Wire

_DIRECT: Final = "direct"
_PROXY: Final = "bare aiohttp proxy"
_QUERY: Final = f"?ns={NAMESPACE}"
_LAYERS: Final = 5
_LAYER_BYTES: Final = 4 * MIB
_MIXED: Final = tuple(round(size * MIB) for size in (64, 48, 32, 16, 8, 4, 2, 1, 0.3, 0.05))


def first_byte(bench: Bench) -> Iterator[Outcome]:
    """Cold, the upstream on loopback: from sending the GET of a layer to the first byte of its body.

    Each round has an image of its own with five layers of 4 MiB, pulled one layer at a time over one kept connection
    after its manifest, as clients do: directly and through each contender, in rotating order. Samples pair by layer.
    The node fetches the layer ahead that is behind the one being pulled, so the first layers, which nothing fetched
    ahead, are shown on their own as well. The bare proxy shows what any aiohttp server between the two costs.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        servers, missing = bench.started(stack, {DISTRIBUTION: partial(pull_through_cache, url, bench.work)})
        yield from missing
        servers[_PROXY] = stack.enter_context(bare_proxy(url, bench.work))
        servers[OURS] = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=url))
        repository = "bench/first"
        pullers = {name: Puller("127.0.0.1", server.port, repository) for name, server in servers.items()}
        pullers |= {
            _DIRECT: Puller("127.0.0.1", registry.port, repository),
            OURS: Puller("127.0.0.1", servers[OURS].port, repository, _QUERY),
        }
        samples: dict[str, tuple[float, ...]] = dict.fromkeys(pullers, ())
        for number, order in enumerate(rotations(6 * bench.rounds + 1, list(pullers))):
            image = storage.image(repository, f"v{number}", [_LAYER_BYTES] * _LAYERS)
            for name in order:
                pulled = pullers[name].pull(image.tag, parallel=1, check=number == 0)
                if number:
                    samples[name] += tuple(1000 * seconds for seconds in pulled.first_byte_s)
    for what, step in (("cold layers", 1), ("cold first layers", _LAYERS)):
        for peer, bound in ((_DIRECT, 3.0), (_PROXY, None), (DISTRIBUTION, None)):
            if peer in samples:
                ours, theirs = samples[OURS][::step], samples[peer][::step]
                told = f"{what}, upstream on loopback: first byte"
                yield Row(bench.name, told, "ms", ours, Aim.ABOVE_BY_AT_MOST, peer, theirs, bound)


def link(bench: Bench) -> Iterator[Outcome]:
    """Cold, the upstream behind 1 Gbit/s and 5 ms each way: wall time of a whole pull, HEAD by tag to last byte.

    Each round has an image of its own with ten layers of 0.05 to 64 MiB (175 MiB), pulled three layers at a time by a
    client beside the node: directly and through each contender, in rotating order.
    """
    try:
        with ExitStack() as stack:
            storage = UpstreamStorage(bench.work / "upstream")
            note = _check_relay(bench, storage)
            shaped = stack.enter_context(shaped_link())
            pulls, missing = _across(stack, bench, storage, shaped)
            yield from missing
            samples = _link_samples(bench, storage, pulls)
    except MissingToolError as error:
        yield Missing(bench.name, error.peer, error.provides)
        return
    what = f"cold image of {sum(_MIXED) // MIB} MiB over {RATE}, {DELAY_MS:.0f} ms each way: wall time"
    for peer, bound in ((_DIRECT, 1.10), (DISTRIBUTION, None)):
        if peer in samples:
            yield Row(bench.name, what, "s", samples[OURS], Aim.RATIO_AT_MOST, peer, samples[peer], bound, note)


def _across(
    stack: ExitStack, bench: Bench, storage: UpstreamStorage, shaped: Link
) -> tuple[dict[str, Callable[[Image, bool], Pulled]], list[Outcome]]:
    """Upstream and relay at the far end, the contenders at the near end: a way to pull through each."""
    registry = stack.enter_context(docker_registry(storage.root, bench.work, namespace=shaped.far))
    stack.enter_context(delayed(registry.port, bench.work, port=RELAY_PORT, namespace=shaped.far, host=FAR))
    url = f"http://{FAR}:{RELAY_PORT}"
    cache = partial(pull_through_cache, url, bench.work, namespace=shaped.near)
    servers, missing = bench.started(stack, {DISTRIBUTION: cache})
    node = layermesh(bench.work / "node", bench.work, upstream=url, namespace=shaped.near)
    servers[OURS] = stack.enter_context(node)

    def pull(host: str, port: int, query: str, image: Image, check: bool) -> Pulled:
        return _pull_within(shaped.near, host, port, image, query, check)

    pulls: dict[str, Callable[[Image, bool], Pulled]] = {
        name: partial(pull, "127.0.0.1", server.port, _QUERY if name == OURS else "")
        for name, server in servers.items()
    }
    return {_DIRECT: partial(pull, FAR, RELAY_PORT, ""), **pulls}, missing


def _link_samples(
    bench: Bench, storage: UpstreamStorage, pulls: dict[str, Callable[[Image, bool], Pulled]]
) -> dict[str, tuple[float, ...]]:
    samples: dict[str, tuple[float, ...]] = dict.fromkeys(pulls, ())
    for number, order in enumerate(rotations(bench.rounds + 1, list(pulls))):
        image = storage.image("bench/link", f"v{number}", _MIXED)
        for name in order:
            pulled = pulls[name](image, number == 0)
            bench.say(f"{name}: {pulled.seconds:.2f} s, {pulled.bytes / pulled.seconds / 1e6:.0f} MB/s")
            if number:
                samples[name] += (pulled.seconds,)
    return samples


def _pull_within(namespace: str, host: str, port: int, image: Image, query: str, check: bool) -> Pulled:
    options = ["--host", host, "--port", str(port), "--repository", image.repository, "--tag", image.tag]
    options += [f"--query={query}", *(["--check"] if check else [])]
    command = within(namespace, [sys.executable, "-m", "tests.bench.pull", *options])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise MeasureError(f"pull of {image.tag} from {host}:{port}: {done.stderr[-600:]}")
    fields = json.loads(done.stdout)
    return Pulled(fields["seconds"], fields["bytes"], tuple(fields["first_byte_s"]))


def _check_relay(bench: Bench, storage: UpstreamStorage) -> str:
    """What the relay does alone, on loopback without a rate: its throughput and the delay it adds."""
    image = storage.image("bench/relay", "v1", [64 * MIB])
    port = free_port()
    with ExitStack() as stack:
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        stack.enter_context(delayed(registry.port, bench.work, port=port, namespace=None))
        rate = bytes_per_second(port, image.blob_path(image.layers[0]), 3, 1.0, Taking.DISCARD)
        added = _round_trip_ms(port) - _round_trip_ms(registry.port)
    return f"relay alone: {rate * 8 / 1e9:.1f} Gbit/s, adds {added:.2f} ms to a round trip"


def _round_trip_ms(port: int) -> float:
    wire = Wire("127.0.0.1", port)
    best = float("inf")
    for _ in range(20):
        sent = time.perf_counter()
        wire.send("/v2/")
        wire.head()
        wire.body()
        best = min(best, 1000 * (time.perf_counter() - sent))
    wire.close()
    return best
