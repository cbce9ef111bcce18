"""A real Kubo that fails while a blob is read from it, with the waits that a node has by itself."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from cluster.config import Timings
from facade.admin.status import ipfs, ipfs_warnings
from facade.settings import Waits
from facade.upstream.client import Limits
from node.cid import Cid
from node.digest import Digest
from node.errors import FullError
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import DEFAULT_TIMINGS
from node.ipfs.kubo.kubo import Timings as KuboTimings
from tests.facade.machine import Machine, machine, until
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.peer import dag_of
from tests.fakes.registry import FakeRegistry
from tests.fakes.relay import Relay, relaying
from tests.kubo.daemon import Kubo, running_kubo
from tests.node.contents import mounted

MIB: Final = 1024 * 1024
HELD_AFTER: Final = 4 * MIB
PROMISED_S: Final = 3.0
"""By so much a pull may be later than a direct one, whatever fails."""


@cache
def image() -> FakeImage:
    """Kubo reads some ten leaves ahead, on each of two connections, and what fails must be behind those."""
    return make_image("real", layer_bytes=(44 * MIB,))


def layer() -> Blob:
    return image().layers[0]


def last_leaf() -> Cid:
    dag = dag_of(layer().data)
    return dag.leaf(dag.leaf_count - 2).cid


@dataclass
class Read:
    """An answer's body, and for how long at most nothing of it came."""

    source: str
    data: bytes
    longest_s: float


@asynccontextmanager
async def beside(
    folder: Path,
    registry: FakeRegistry,
    kubo: Kubo,
    gateway: Relay | None = None,
    timings: KuboTimings = DEFAULT_TIMINGS,
) -> AsyncIterator[Machine]:
    """A node that waits as long as nodes do, its Kubo's gateway behind a relay."""
    async with machine(
        folder,
        registry,
        kubo=Endpoint(kubo.rpc, gateway=gateway.url if gateway else None),
        kubo_timings=timings,
        waits=Waits(),
        limits=Limits(),
        timings=Timings(),
    ) as node:
        yield node


async def publish(node: Machine) -> None:
    """Have the whole image in the Kubo, and its layer no longer here."""
    assert (await node.manifest("v1")).status == 200
    for blob in image().blobs:
        assert (await node.blob(blob.digest)).status == 200
        await node.landed(blob.digest)
    await until(lambda: node.kubo.publisher.offered == 3 and node.kubo.publisher.in_step)
    await lose(node)


async def lose(node: Machine) -> None:
    """Drop the layer here; Kubo has it still, unpinned."""
    withdrawn = node.kubo.publisher.withdrawn
    await node.store.drop(layer().digest)
    if node.kubo.kubo.is_prompt:
        await until(lambda: node.kubo.publisher.withdrawn > withdrawn)


async def read(node: Machine, digest: Digest, after_first: Callable[[], "asyncio.Future[None]"] | None = None) -> Read:
    """Read a blob; once a MiB came, `after_first` is done, which counts for no time."""
    loop, data, longest_s = asyncio.get_running_loop(), bytearray(), 0.0
    begun = loop.time()
    async with node.session.get(f"{node.facade}/v2/team/app/blobs/{digest}?ns=docker.io") as answer:
        async for piece in answer.content.iter_any():
            data += piece
            longest_s = max(longest_s, loop.time() - begun)
            if after_first is not None and len(data) >= MIB:
                await after_first()
                after_first = None
            begun = loop.time()
        return Read(answer.headers["Layermesh-Source"], bytes(data), max(longest_s, loop.time() - begun))


def die(kubo: Kubo) -> None:
    assert kubo.process is not None
    kubo.process.kill()
    kubo.process.wait(timeout=15)


def freeze(kubo: Kubo) -> None:
    assert kubo.process is not None
    os.kill(kubo.process.pid, signal.SIGSTOP)


def collect(kubo: Kubo) -> None:
    assert "Keys" not in kubo.call("pin/ls", type="recursive", name=str(layer().digest))
    kubo.ask("repo/gc")


def lose_a_leaf(kubo: Kubo) -> None:
    kubo.call("block/rm", str(last_leaf()), force="true")


def damage_a_leaf(kubo: Kubo) -> None:
    """As a disk does: Kubo serves what it reads, and answers 200."""
    index = dag_of(layer().data).leaf_count - 2
    leaf = layer().data[index * MIB : (index + 1) * MIB]
    (path,) = [each for each in (kubo.repo / "blocks").rglob("*.data") if each.read_bytes() == leaf]
    path.chmod(0o600)
    path.write_bytes(bytes(len(leaf)))


def mount_again(folder: Path, size: str) -> None:
    """Give a small file system another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.fixture
def waking(kubo: Kubo) -> Iterator[Kubo]:
    """A Kubo that goes on afterwards, so that it can be stopped."""
    yield kubo
    if kubo.process is not None and kubo.process.poll() is None:
        os.kill(kubo.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (die, "is away: connection refused"),
        (freeze, "gives no answer: is it frozen?"),
        (collect, "Kubo lacks a part of bafy"),
        (lose_a_leaf, "Kubo lacks a part of bafy"),
        (damage_a_leaf, "Kubo gave wrong bytes for bafy"),
    ],
)
async def test_a_kubo_that_fails_in_the_middle_of_a_blob_costs_a_moment_and_is_told_of(
    tmp_path: Path, registry: FakeRegistry, waking: Kubo, harm: Callable[[Kubo], None], words: str
) -> None:
    registry.push("team/app", image(), "v1")
    async with relaying(waking.gateway) as relay, beside(tmp_path / "n", registry, waking, relay) as node:
        await publish(node)
        registry.requests.clear()
        relay.hold_after = HELD_AFTER

        async def harmed() -> None:
            async with asyncio.timeout(10):
                await relay.reached.wait()
            await asyncio.to_thread(harm, waking)
            relay.go_on.set()

        pulled = await read(node, layer().digest, lambda: asyncio.ensure_future(harmed()))
        assert pulled.source == "ipfs" and pulled.data == layer().data
        assert pulled.longest_s < PROMISED_S
        assert registry.asked("blobs")[-1].headers["Range"].startswith("bytes=")
        await node.kubo.kubo.health()
        await until(lambda: [each for each in ipfs_warnings(node.kubo) if words in each])

        await node.landed(layer().digest)
        await lose(node)
        again = await read(node, layer().digest)
        assert again.data == layer().data and again.longest_s < PROMISED_S


def rotate(kubo: Kubo) -> None:
    """The operator has it make a new key; its pins stay."""
    kubo.by_hand("key", "rotate", "--oldkey", "before")


def begin_anew(kubo: Kubo) -> None:
    kubo.move(kubo.repo.parent / "anew")


@pytest.mark.parametrize("change", [rotate, begin_anew])
async def test_a_kubo_that_comes_back_as_another_one_is_given_all_and_costs_no_pull(
    tmp_path: Path, registry: FakeRegistry, kubo: Kubo, change: Callable[[Kubo], None]
) -> None:
    registry.push("team/app", image(), "v1")
    timings = replace(DEFAULT_TIMINGS, look_every_s=0.1, look_again_s=0.1)
    async with beside(tmp_path / "n", registry, kubo, timings=timings) as node:
        await publish(node)
        before = kubo.peer_id
        assert ipfs(node.kubo).peer_id == before
        await asyncio.to_thread(kubo.stop)
        pulled = await read(node, layer().digest)
        assert pulled.data == layer().data and pulled.longest_s < PROMISED_S
        await asyncio.to_thread(change, kubo)
        await asyncio.to_thread(kubo.start)
        after = kubo.peer_id
        await until(lambda: ipfs(node.kubo).peer_id == after != before)
        await until(lambda: node.kubo.publisher.in_step)
        pins = kubo.call("pin/ls", type="recursive", names="true")["Keys"]
        roots = {str(dag_of(blob.data).root) for blob in (image().manifest, *image().blobs)}
        assert roots <= {cid for cid, pin in pins.items() if pin.get("Name", "").startswith("layermesh/")}
        assert not ipfs_warnings(node.kubo)


def told(kubo: Kubo) -> set[str]:
    """Whom it was told to keep a connection to; when it has one is its own affair, and may take seconds."""
    return {each["ID"] for each in kubo.call("swarm/peering/ls")["Peers"] or ()}


async def test_a_kubo_that_comes_back_as_another_one_is_introduced_as_that(
    tmp_path: Path, registry: FakeRegistry, kubo: Kubo
) -> None:
    with running_kubo(tmp_path / "other") as other:
        async with (
            machine(tmp_path / "a", registry, kubo=Endpoint(kubo.rpc)) as first,
            machine(tmp_path / "b", registry, kubo=Endpoint(other.rpc), joins=(first.mesh,)),
        ):
            await until(lambda: told(other) == {kubo.peer_id})
            await asyncio.to_thread(kubo.stop)
            await asyncio.to_thread(rotate, kubo)
            await asyncio.to_thread(kubo.start)
            await until(lambda: told(other) == {kubo.peer_id})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs: run the tests as root")
async def test_a_kubo_whose_disk_is_full_is_told_of_and_published_to_once_there_is_room(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    """Where its repository's path is long, Kubo says that the disk is full behind hundreds of characters."""
    registry.push("team/app", image(), "v1")
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "24m"), running_kubo(small / ("a" * 180) / ("b" * 180)) as kubo:
        async with beside(tmp_path / "n", registry, kubo) as node:
            assert (await node.manifest("v1")).status == 200
            assert (await read(node, layer().digest)).data == layer().data
            await until(lambda: node.kubo.publisher.trouble)
            (warning,) = ipfs_warnings(node.kubo)
            assert warning.startswith("ipfs: Kubo's disk is full: ") and node.kubo.kubo.usable
            await asyncio.to_thread(mount_again, small, "200m")
            await until(lambda: not ipfs_warnings(node.kubo) and node.kubo.publisher.in_step)
            assert node.kubo.publisher.offered == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs: run the tests as root")
async def test_a_disk_that_is_full_when_kubo_fetches_from_its_swarm_is_told_of(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    (tmp_path / "file").write_bytes(layer().data)
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "24m"), running_kubo(small / "kubo") as kubo, running_kubo(tmp_path / "other") as other:
        other.by_hand("add", "--quieter", str(tmp_path / "file"))
        kubo.meet(other)
        async with beside(tmp_path / "n", registry, kubo) as node:
            await until(lambda: node.kubo.kubo.usable)
            with pytest.raises(FullError):
                await node.kubo.kubo.fetch(dag_of(layer().data).root, layer().digest)
            (warning,) = ipfs_warnings(node.kubo)
            assert warning.startswith("ipfs: Kubo's disk is full: pin: write ") and node.kubo.kubo.usable
