"""A catalog that holds much, beside one that holds little."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from node.digest import Digest
from tests.bench.content import MANIFEST_TYPE, UpstreamStorage
from tests.bench.context import OURS, Bench, alternate
from tests.bench.fill import FILES, MANY, blob
from tests.bench.filled import filled
from tests.bench.load import requests_per_second
from tests.bench.push import push_image
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import layermesh
from tests.bench.wire import Wire

_MUCH: Final = 1_000_000
_FILL_LIMIT_S: Final = 600
_CONNECTIONS: Final = 16
_LITTLE: Final = f"with {FILES:,} blobs"


def many(bench: Bench) -> Iterator[Outcome]:
    """A node with 1,000,000 blobs of an own repository in its catalog, beside one with 1,000 of them.

    Each is started anew, then asked for the 1,000 that both have (HEAD, one connection), which neither has in memory;
    and in the end for a manifest that was pushed to both.
    """
    stores = {OURS: _filled(bench, _MUCH), _LITTLE: _filled(bench, FILES)}
    heads = alternate(bench.rounds, {name: partial(_first_heads, bench, store) for name, store in stores.items()})
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "image")
        image = storage.image("bench/own", "v1", [200_000] * 8)
        contenders = {}
        for name, store in stores.items():
            node = stack.enter_context(layermesh(store, bench.work))
            push_image(node.port, image, storage)
            path, seconds = image.manifest_path(), 2 * bench.seconds
            contenders[name] = partial(requests_per_second, node.port, path, _CONNECTIONS, seconds, MANIFEST_TYPE)
        manifests = alternate(bench.rounds, contenders)
    told = f"{_MUCH:,} blobs in the catalog"
    first = f"{told}: HEAD of a blob for the first time"
    yield Row(bench.name, first, "ms", heads[OURS], Aim.RATIO_AT_MOST, _LITTLE, heads[_LITTLE], 1.1)
    warm, few = manifests[OURS], manifests[_LITTLE]
    yield Row(bench.name, f"{told}: own manifest GET", "requests/s", warm, Aim.RATIO_AT_LEAST, _LITTLE, few, 0.9)


def _first_heads(bench: Bench, store: Path) -> float:
    """The milliseconds that a new node takes to answer for a blob that it was never asked for: the median of all."""
    taken = []
    with layermesh(store, bench.work) as node, closing(Wire("127.0.0.1", node.port)) as wire:
        for number in range(FILES):
            started = time.perf_counter()
            wire.send(f"/v2/{MANY}/blobs/{Digest.of(blob(number))}", method="HEAD")
            wire.head(bodiless=True)
            taken.append(1000 * (time.perf_counter() - started))
    return median(taken)


def _filled(bench: Bench, count: int) -> Path:
    """A copy for this run."""
    kept = filled(bench, "own", count, _FILL_LIMIT_S, "--own")
    return Path(shutil.copytree(kept, bench.work / kept.name))
