"""What only the upstream has, and the upstream is far: a pull over a link of a given rate and delay."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.bench.content import MIB, Image, UpstreamStorage
from tests.bench.context import OURS, Bench, rotations
from tests.bench.link import FAR, RELAY_PORT, Link, Shape, delayed, shaped_link
from tests.bench.load import bytes_per_second
from tests.bench.processes import free_port, within
from tests.bench.pull import Pulled
from tests.bench.rows import Aim, MeasureError, Missing, MissingToolError, Outcome, Row
from tests.bench.servers import DISTRIBUTION, NAMESPACE, docker_registry, layermesh, pull_through_cache
from tests.bench.wire import Taking, Wire

DIRECT: Final = "direct"
_QUERY: Final = f"?ns={NAMESPACE}"
_MIXED: Final = (64, 48, 32, 16, 8, 4, 2, 1, 0.3, 0.05)
_LAYERS: Final = 5
Pull = Callable[[Image, int, bool], Pulled]
"""Pulls an image, so many layers at a time, checking every byte or not."""
Pulls = dict[str, tuple[Pulled, ...]]


@dataclass(frozen=True, slots=True)
class Course:
    """A link, and the images that are pulled over it: whole ones of many sizes, and even ones, a layer at a time."""

    shape: Shape
    whole: tuple[int, ...]
    even: tuple[int, ...]


_FAST: Final = Course(Shape("1gbit", 5.0), tuple(round(size * MIB) for size in _MIXED), (4 * MIB,) * _LAYERS)
_SLOW: Final = Course(Shape("100mbit", 20.0), tuple(round(size * MIB / 8) for size in _MIXED), (2 * MIB,) * _LAYERS)


def link(bench: Bench) -> Iterator[Outcome]:
    """Cold, over 1 Gbit/s and 5 ms each way; an image of 175 MiB, and layers of 4 MiB. See `_over`."""
    return _over(bench, _FAST)


def slow_link(bench: Bench) -> Iterator[Outcome]:
    """Cold, over 100 Mbit/s and 20 ms each way; an image of 22 MiB, and layers of 2 MiB. See `_over`."""
    return _over(bench, _SLOW)


def _over(bench: Bench, course: Course) -> Iterator[Outcome]:
    """Cold pulls by a client beside the node, each round of an image of its own, in rotating order.

    Whole: ten layers of many sizes, three at a time; wall time from HEAD by tag to last byte. One layer at a time: the
    answer to HEAD by tag, which is the client's first request on a new connection, and the first byte of each layer,
    samples paired by image and by layer; the first layers, which nothing fetches ahead, stand on their own as well.
    """
    try:
        with ExitStack() as stack:
            storage = UpstreamStorage(bench.work / "upstream")
            note = _check_relay(bench, storage, course.shape)
            shaped = stack.enter_context(shaped_link(course.shape.rate))
            pulls, missing = _across(stack, bench, storage, shaped, course.shape)
            yield from missing
            whole = _samples(bench, storage, pulls, "whole", course.whole, bench.rounds, 3)
            even = _samples(bench, storage, pulls, "even", course.even, 2 * bench.rounds, 1)
    except MissingToolError as error:
        yield Missing(bench.name, error.peer, error.provides)
        return
    yield from rows(bench, course, whole, even, note)


def rows(bench: Bench, course: Course, whole: Pulls, even: Pulls, note: str) -> Iterator[Outcome]:
    """What the pulls of whole and of even images amount to, against each of the others."""
    over = f"over {course.shape}"
    image = f"cold image of {sum(course.whole) // MIB} MiB {over}: wall time"
    seconds = {name: tuple(each.seconds for each in pulled) for name, pulled in whole.items()}
    heads = {name: tuple(1000 * each.head_s for each in pulled) for name, pulled in even.items()}
    firsts = {name: tuple(1000 * s for each in pulled for s in each.first_byte_s) for name, pulled in even.items()}
    for peer in whole.keys() - {OURS}:
        direct = peer == DIRECT
        ours, theirs = seconds[OURS], seconds[peer]
        yield Row(bench.name, image, "s", ours, Aim.RATIO_AT_MOST, peer, theirs, 1.05 if direct else None, note)
        for what, samples in (
            ("HEAD by tag, cold", heads),
            ("cold layers: first byte", firsts),
            ("cold first layers: first byte", {name: values[:: len(course.even)] for name, values in firsts.items()}),
        ):
            ours, theirs, bound = samples[OURS], samples[peer], 3.0 if direct else None
            yield Row(bench.name, f"{what}, {over}", "ms", ours, Aim.ABOVE_BY_AT_MOST, peer, theirs, bound)


def _across(
    stack: ExitStack, bench: Bench, storage: UpstreamStorage, shaped: Link, shape: Shape
) -> tuple[dict[str, Pull], list[Outcome]]:
    """Upstream and relay at the far end, the contenders at the near end: a way to pull through each."""
    registry = stack.enter_context(docker_registry(storage.root, bench.work, namespace=shaped.far))
    relay = partial(delayed, registry.port, bench.work, shape.delay_ms)
    stack.enter_context(relay(port=RELAY_PORT, namespace=shaped.far, host=FAR))
    url = f"http://{FAR}:{RELAY_PORT}"
    cache = partial(pull_through_cache, url, bench.work, namespace=shaped.near)
    servers, missing = bench.started(stack, {DISTRIBUTION: cache})
    node = layermesh(bench.work / "node", bench.work, upstream=url, namespace=shaped.near)
    servers[OURS] = stack.enter_context(node)
    pulls: dict[str, Pull] = {
        name: partial(_pull_within, shaped.near, "127.0.0.1", server.port, _QUERY if name == OURS else "")
        for name, server in servers.items()
    }
    return {DIRECT: partial(_pull_within, shaped.near, FAR, RELAY_PORT, ""), **pulls}, missing


def _samples(
    bench: Bench,
    storage: UpstreamStorage,
    pulls: dict[str, Pull],
    kind: str,
    sizes: tuple[int, ...],
    rounds: int,
    parallel: int,
) -> Pulls:
    samples: Pulls = dict.fromkeys(pulls, ())
    for number, order in enumerate(rotations(rounds + 1, list(pulls))):
        image = storage.image(f"bench/{kind}", f"v{number}", sizes)
        for name in order:
            pulled = pulls[name](image, parallel, number == 0)
            bench.say(f"{kind}, {name}: {pulled.seconds:.2f} s, {pulled.bytes / pulled.seconds / 1e6:.0f} MB/s")
            if number:
                samples[name] += (pulled,)
    return samples


def _pull_within(namespace: str, host: str, port: int, query: str, image: Image, parallel: int, check: bool) -> Pulled:
    options = ["--host", host, "--port", str(port), "--repository", image.repository, "--tag", image.tag]
    options += [f"--query={query}", "--parallel", str(parallel), *(["--check"] if check else [])]
    command = within(namespace, [sys.executable, "-m", "tests.bench.pull", *options])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise MeasureError(f"pull of {image.tag} from {host}:{port}: {done.stderr[-600:]}")
    return Pulled(**json.loads(done.stdout))


def _check_relay(bench: Bench, storage: UpstreamStorage, shape: Shape) -> str:
    """What the relay does alone, on loopback without a rate: its throughput and the delay it adds."""
    image = storage.image("bench/relay", "v1", [64 * MIB])
    port = free_port()
    with ExitStack() as stack:
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        stack.enter_context(delayed(registry.port, bench.work, shape.delay_ms, port=port, namespace=None))
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
