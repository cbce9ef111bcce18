"""A node that stands on a Kubo: what publishing and reading through it cost, and a swarm that has nothing."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from itertools import chain, count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from yarl import URL

from node.catalog import Holding
from node.cid import Cid
from node.digest import Digest
from node.ipfs.embedded import Embedded
from node.ipfs.kubo.adding import PROFILE
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import Kubo as KuboNetwork
from node.ipfs.kubo.kubo import open_kubo
from node.reference import Repository
from node.source import Wanted
from node.store import Store, open_store
from node.visibility import Proof, Visibility
from tests.bench.content import MIB, Image, UpstreamStorage, pieces
from tests.bench.context import OURS, Bench, alternate
from tests.bench.plain import ready_memory
from tests.bench.pull import Puller
from tests.bench.rows import Aim, MeasureError, MissingToolError, Outcome, Row
from tests.bench.servers import NAMESPACE, Server, docker_registry, layermesh, through
from tests.bench.wire import Taking, Wire
from tests.fakes.peer import FakePeer, fake_peer
from tests.kubo.daemon import BUILT, Kubo, running_kubo

_BYTES: Final = 1024 * MIB
_PATIENCE_S: Final = 120.0
_REPOSITORY: Final = Repository("docker.io", "bench/kubo")


@dataclass(frozen=True, slots=True)
class _Given:
    """What a file is published by."""

    store: Store
    kubo: KuboNetwork
    digest: Digest
    file: Path


_Way = Callable[[_Given], Awaitable[float]]
_Take = Callable[[Server, Image], float]


def publish(bench: Bench) -> Iterator[Outcome]:
    """Publishing a file of 1 GiB, beside a bare RPC `add` of the same file: seconds.

    Through Kubo, what is in the store is given to it and the CID compared. Embedded, the file is taken into the store,
    with its digest and its DAG, as nothing more is needed. Each time of other bytes, as Kubo is quicker with those that
    it has; and removed afterwards.
    """
    with ExitStack() as stack:
        kubo = _kubo(stack, bench)
        numbers = count()

        def sample(way: _Way) -> float:
            number, file = next(numbers), bench.work / "file"
            with file.open("wb") as target:
                target.writelines(pieces(f"publish {number}", _BYTES))
            return asyncio.run(_published(kubo, bench.work / f"store{number}", file, way))

        ways = {OURS: _by_us, "RPC add": _bare, "embedded": _embedded}
        samples = alternate(bench.rounds, {name: partial(sample, way) for name, way in ways.items()})
    bare = samples["RPC add"]
    yield Row(bench.name, "publishing 1 GiB through Kubo", "s", samples[OURS], Aim.RATIO_AT_MOST, "RPC add", bare, 1.1)
    what = "publishing 1 GiB embedded"
    yield Row(bench.name, what, "s", samples["embedded"], Aim.RATIO_AT_MOST, "RPC add", bare, 0.4)


def read(bench: Bench) -> Iterator[Outcome]:
    """A blob of 1 GiB that is no longer here, read from Kubo through the facade, verified and kept: seconds.

    The peer is a bare read of the same file from Kubo's gateway, by the same client.
    """
    with ExitStack() as stack:
        kubo = _kubo(stack, bench)
        storage = UpstreamStorage(bench.work / "upstream")
        image = storage.image("bench/kubo", "v1", [_BYTES])
        node = _node(stack, bench, storage, kubo)
        Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}").pull(image.tag)
        _until(lambda: _status(node)["in_step"] and _status(node)["offered"] >= 3)
        layer = image.layers[0].digest.partition(":")[2]
        file = bench.work / "node" / "blobs" / "sha256" / layer[:2] / layer
        cid = _ask(node, f"/api/where?ref={image.layers[0].digest}")["blobs"][0]["cid"]

        def ours() -> float:
            file.unlink()
            ready_memory(bench.work / "plain", _BYTES)
            seconds = _read(node.port, through(image.blob_path(image.layers[0])), "ipfs")
            _until(lambda: file.exists() and _status(node)["in_step"])
            return seconds

        samples = alternate(
            bench.rounds, {OURS: ours, "Kubo's gateway": partial(_read, kubo.gateway.port or 0, f"/ipfs/{cid}", None)}
        )
    what, peer = "reading 1 GiB from Kubo through the facade", "Kubo's gateway"
    yield Row(bench.name, what, "s", samples[OURS], Aim.RATIO_AT_MOST, peer, samples[peer], 1.5)


def nobody(bench: Bench) -> Iterator[Outcome]:
    """What a peer named who is gone, and no Kubo has: the first byte of a layer, and a whole image by its tag, in ms.

    The peer is a node without a Kubo, asked for the same.
    """
    with ExitStack() as stack:
        kubo = _kubo(stack, bench)
        storage = UpstreamStorage(bench.work / "upstream")
        sizes = [8 * MIB, 4 * MIB, 4 * MIB]
        images = [storage.image("bench/kubo", f"v{number}", sizes) for number in range(2 * bench.rounds)]
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        ways = {OURS: ["--ipfs", f"kubo={kubo.rpc}"], "without a Kubo": []}

        def sample(image: Image, name: str, take: _Take) -> float:
            folder = bench.work / f"{name} {image.tag}"
            return asyncio.run(_asked(bench, registry, storage, image, folder, ways[name], take))

        firsts = {name: tuple(sample(image, name, _first_byte) for image in images[::2]) for name in ways}
        pulls = {name: tuple(sample(image, name, _pulled) for image in images[1::2]) for name in ways}
    peer = "without a Kubo"
    for of, ms in (("first byte of a blob", firsts), ("pull of an image", pulls)):
        what = f"{of} that nobody has but upstream"
        yield Row(bench.name, what, "ms", ms[OURS], Aim.ABOVE_BY_AT_MOST, peer, ms[peer], 300.0)


def _kubo(stack: ExitStack, bench: Bench) -> Kubo:
    if not BUILT.exists():
        raise MissingToolError("Kubo", "make kubo")
    return stack.enter_context(running_kubo(bench.work / "kubo"))


def _node(stack: ExitStack, bench: Bench, storage: UpstreamStorage, kubo: Kubo) -> Server:
    registry = stack.enter_context(docker_registry(storage.root, bench.work))
    more = ["--ipfs", f"kubo={kubo.rpc}"]
    upstream = f"http://127.0.0.1:{registry.port}"
    return stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=upstream, more=more))


async def _published(kubo: Kubo, folder: Path, file: Path, way: _Way) -> float:
    """The seconds that a way takes to publish a file; all find machine and Kubo alike."""
    with file.open("rb") as source:
        digest = Digest.parse(f"sha256:{file_digest(source, 'sha256').hexdigest()}")
    async with open_store(folder) as store, open_kubo(store, Endpoint(kubo.rpc)) as network:
        await network.health()
        seconds = await way(_Given(store, network, digest, file))
        await asyncio.to_thread(kubo.ask, "pin/rm", str((await _held(store, digest)).cid))
        await store.drop(digest)
    kubo.call("repo/gc")
    return seconds


async def _by_us(given: _Given) -> float:
    await _ingest(given)
    await given.store.sync(given.digest)
    await asyncio.to_thread(ready_memory, given.store.folder / "plain", _BYTES)
    started = time.perf_counter()
    await given.kubo.add(given.digest)
    return time.perf_counter() - started


async def _bare(given: _Given) -> float:
    await _ingest(given)
    await given.store.sync(given.digest)
    await asyncio.to_thread(ready_memory, given.store.folder / "plain", _BYTES)
    started = time.perf_counter()
    cid = await asyncio.to_thread(_added, given.kubo.endpoint.url, given.file)
    seconds = time.perf_counter() - started
    if cid != (await _held(given.store, given.digest)).cid:
        raise MeasureError("Kubo gave the file another CID")
    return seconds


async def _embedded(given: _Given) -> float:
    await asyncio.to_thread(ready_memory, given.store.folder / "plain", _BYTES)
    started = time.perf_counter()
    await _ingest(given)
    await Embedded(given.store).add(given.digest)
    return time.perf_counter() - started


async def _ingest(given: _Given) -> None:
    async with given.store.ingest(Wanted(_REPOSITORY, given.digest, _BYTES)) as ingest:
        with given.file.open("rb", buffering=0) as source:
            for at in range(0, _BYTES, MIB):
                await ingest.write(at, source.read(MIB))
        await ingest.commit(Proof(Visibility.PUBLIC))


async def _held(store: Store, digest: Digest) -> Holding:
    holding = await store.find(digest)
    assert holding is not None, "it was put there"
    return holding


def _added(rpc: URL, file: Path) -> Cid:
    """A bare `add` of a file, as curl sends one."""
    head, tail = b'--B\r\nContent-Disposition: form-data; name="file"; filename="blob"\r\n\r\n', b"\r\n--B--\r\n"
    length = len(head) + file.stat().st_size + len(tail)
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Content-Length": str(length)}
    target = f"/api/v0/add?{urlencode({**PROFILE, 'pin': 'true'})}"
    with closing(http.client.HTTPConnection(rpc.host or "", rpc.port or 0, timeout=_PATIENCE_S)) as connection:
        with file.open("rb", buffering=0) as source:
            body = chain([head], iter(partial(source.read, MIB), b""), [tail])
            connection.request("POST", target, body, headers)
        return Cid.parse(json.loads(connection.getresponse().read())["Hash"])


def _read(port: int, target: str, source: str | None) -> float:
    """The seconds that a whole body takes, which must come from `source` where that is named."""
    with closing(Wire("127.0.0.1", port, Taking.COPY)) as wire:
        started = time.perf_counter()
        wire.send(target)
        head = wire.head()
        if source is not None and head.headers["layermesh-source"] != source:
            raise MeasureError(f"{target} came from {head.headers['layermesh-source']}, not from {source}")
        wire.take_body()
        return time.perf_counter() - started


async def _asked(
    bench: Bench,
    registry: Server,
    storage: UpstreamStorage,
    image: Image,
    folder: Path,
    more: list[str],
    take: _Take,
) -> float:
    layer = image.layers[-1]
    async with _named(storage, image) as peer, AsyncExitStack() as stack:
        flags = [*more, "--join", str(peer.url)]
        upstream = f"http://127.0.0.1:{registry.port}"
        node = stack.enter_context(layermesh(folder, bench.work, upstream=upstream, more=flags))
        where = f"/api/where?ref={layer.digest}"
        await asyncio.to_thread(_until, lambda: _has_peers(node, where))
        if more:
            await asyncio.to_thread(_until, lambda: _status(node)["usable"])
        await peer.leave()
        await asyncio.to_thread(_until, lambda: not _has_peers(node, where))
        return await asyncio.to_thread(take, node, image)


@asynccontextmanager
async def _named(storage: UpstreamStorage, image: Image) -> AsyncIterator[FakePeer]:
    """A peer that names the image's manifest, config and layers."""
    async with fake_peer() as peer:
        for blob in (image.manifest, image.config, *image.layers):
            peer.hold(await asyncio.to_thread(storage.blob_file(blob.digest).read_bytes))
        yield peer


def _pulled(node: Server, image: Image) -> float:
    return Puller("127.0.0.1", node.port, image.repository, f"?ns={NAMESPACE}").pull(image.tag).seconds * 1e3


def _first_byte(node: Server, image: Image) -> float:
    with closing(Wire("127.0.0.1", node.port)) as wire:
        started = time.perf_counter()
        wire.send(through(image.blob_path(image.layers[0])))
        wire.head()
        return (wire.first_byte() - started) * 1e3


def _has_peers(node: Server, where: str) -> bool:
    try:
        return bool(_ask(node, where)["blobs"][0]["peers"])
    except (MeasureError, IndexError):
        return False


def _status(node: Server) -> dict[str, Any]:
    ipfs: dict[str, Any] = _ask(node, "/api/status")["ipfs"]
    return ipfs


def _ask(node: Server, path: str) -> dict[str, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", node.admin, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise MeasureError(f"{path} was answered {answer.status}: {body[:200]!r}")
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def _until(holds: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise MeasureError("what was waited for did not come")
        time.sleep(0.05)
