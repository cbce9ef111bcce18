"""A peer that lies, stalls, cuts or refuses: with upstream there the right bytes come, without it never wrong ones."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from facade.settings import Waits
from facade.upstream.wire import Limits
from node.digest import Digest
from tests.facade.machine import QUICK_LIMITS, QUICK_WAITS, Machine, machine, until
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, Faults, fake_peer
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
PATIENT = replace(QUICK_LIMITS, headers_s=20.0)
SECRET = b"a secret of the whole cluster"
MISBEHAVIOURS = {
    "stalls": Faults(stall_after=3 * MIB),
    "stalls at once": Faults(stall_after=0),
    "cuts": Faults(cut_after=3 * MIB),
    "lies early": Faults(flip_at=10),
    "lies late": Faults(flip_at=8 * MIB),
    "lies about the DAG": Faults(wrong_node=True),
    "refuses": Faults(status=503),
    "has nothing": Faults(status=404),
    "never answers": Faults(hang=frozenset({"/ipfs/"})),
}


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("hostile", (9 * MIB, 300_000)), "v1")


@asynccontextmanager
async def _beside(
    folder: Path,
    registry: FakeRegistry,
    image: FakeImage,
    secret: bytes | None,
    *,
    lie: bool = False,
    waits: Waits = QUICK_WAITS,
    limits: Limits = QUICK_LIMITS,
) -> AsyncIterator[tuple[Machine, FakePeer]]:
    """A node that knows a peer which holds the image's big layer, or says that other bytes are it."""
    layer = image.layers[0]
    async with fake_peer(FakePeer(secret=secret)) as peer:
        peer.hold(bytes(layer.size) if lie else layer.data, layer.digest)
        joins = (str(peer.url),)
        async with machine(folder / "b", registry, secret=secret, joins=joins, waits=waits, limits=limits) as node:
            await until(lambda: node.cluster.holders(layer.digest))
            yield node, peer


@pytest.mark.parametrize("secret", [None, SECRET], ids=["stranger", "member"])
@pytest.mark.parametrize("how", MISBEHAVIOURS)
async def test_with_upstream_there_the_pull_succeeds_whatever_a_peer_does(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, how: str, secret: bytes | None
) -> None:
    async with _beside(tmp_path, registry, image, secret) as (node, peer):
        assert (await node.manifest("v1")).status == 200
        peer.faults = MISBEHAVIOURS[how]
        answer = await node.blob(image.layers[0].digest)
        assert answer.data == image.layers[0].data and not answer.cut


@pytest.mark.parametrize("secret", [None, SECRET], ids=["stranger", "member"])
@pytest.mark.parametrize("how", MISBEHAVIOURS)
async def test_with_upstream_gone_a_peers_misbehaviour_is_a_clean_failure(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, how: str, secret: bytes | None
) -> None:
    layer = image.layers[0]
    async with _beside(tmp_path, registry, image, secret) as (node, peer):
        assert (await node.manifest("v1")).status == 200
        await registry.stop()
        peer.faults = MISBEHAVIOURS[how]
        answer = await node.blob(layer.digest)
        assert answer.status == 404 or answer.cut
        assert answer.status == 404 or layer.data.startswith(answer.data)
        assert await node.store.find(layer.digest) is None


async def test_a_strangers_wrong_mapping_never_reaches_the_client(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with _beside(tmp_path, registry, image, None, lie=True) as (node, peer):
        await node.manifest("v1")
        answer = await node.blob(image.layers[0].digest)
        assert (answer.data, answer.source) == (image.layers[0].data, "upstream")
        assert peer.bodies and not node.cluster.holders(image.layers[0].digest)


async def test_a_members_wrong_mapping_is_cut_and_the_next_pull_is_right(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with _beside(tmp_path, registry, image, SECRET, lie=True) as (node, _):
        await node.manifest("v1")
        first = await node.blob(image.layers[0].digest)
        assert first.cut and len(first.data) < image.layers[0].size
        assert (await node.blob(image.layers[0].digest)).data == image.layers[0].data


async def test_a_wrong_manifest_from_a_peer_is_replaced_by_upstreams(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with fake_peer(FakePeer()) as peer:
        peer.hold(b"{}", image.manifest.digest)
        async with machine(tmp_path / "b", registry, joins=(str(peer.url),)) as node:
            await until(lambda: node.cluster.holders(image.manifest.digest))
            answer = await node.manifest(image.manifest.digest)
            assert (answer.data, answer.source) == (image.manifest.data, "upstream")


@pytest.mark.parametrize("secret", [None, SECRET], ids=["stranger", "member"])
async def test_a_tag_dated_tomorrow_means_nothing(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, secret: bytes | None
) -> None:
    evil = make_image("evil", (100,))
    async with fake_peer(FakePeer(secret=secret)) as peer:
        for blob in (evil.manifest, *evil.blobs):
            peer.hold(blob.data)
        peer.see("v1", Digest.of(evil.manifest.data), time.time() + 86400, "team/app")
        async with machine(tmp_path / "b", registry, secret=secret, joins=(str(peer.url),)) as node:
            await until(lambda: node.cluster.holders(evil.layers[0].digest))
            await registry.stop()
            assert (await node.manifest("v1")).status == 404
            await registry.start()
            assert (await node.manifest("v1")).data == image.manifest.data


async def test_a_stranger_too_slow_to_be_done_in_time_is_given_up_for_upstream(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with _beside(tmp_path, registry, image, None) as (node, peer):
        assert (await node.manifest("v1")).status == 200
        peer.faults = Faults(trickle_s=0.02)
        answer = await node.blob(image.layers[0].digest)
        assert (answer.data, answer.source) == (image.layers[0].data, "upstream")


async def test_a_stranger_given_up_for_an_upstream_that_is_silent_goes_on_before_clients_are_sent_away(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    layer = image.layers[0]
    waits = replace(QUICK_WAITS, look_s=0.2, fallback_s=0.2, handover_s=0.3)
    async with _beside(tmp_path, registry, image, None, waits=waits, limits=PATIENT) as (node, peer):
        assert (await node.manifest("v1")).status == 200
        registry.fault("blobs", layer.digest, Fault(silent=True))
        peer.faults = Faults(trickle_s=0.02)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(node.blob(layer.digest))
            await registry.until(lambda: bool(registry.asked("blobs", "GET", layer.digest)))
            peer.faults = Faults()
        assert (answer.result().data, answer.result().source) == (layer.data, "peer")


async def test_a_stranger_given_up_for_an_upstream_that_answers_amiss_is_not_streamed_unverified(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    layer = image.layers[0]
    async with _beside(tmp_path, registry, image, None, lie=True) as (node, peer):
        assert (await node.manifest("v1")).status == 200
        registry.fault("blobs", layer.digest, Fault(length=layer.size + 10))
        peer.faults = Faults(trickle_s=0.02)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(node.blob(layer.digest))
            await registry.until(lambda: bool(registry.asked("blobs", "GET", layer.digest)))
            peer.faults = Faults()  # from now on it would be quick
        assert answer.result().status == 404  # no byte before: the runtime can still go direct


@pytest.mark.parametrize(
    "upstream",
    [Fault(stall_after=50_000), Fault(flip_at=9 * MIB)],  # less than 64 KiB a connection is no progress
    ids=["its clients were cut", "it has nothing yet"],
)
async def test_once_upstream_is_well_again_a_pull_does_not_fail_with_an_old_flight_that_gave_upstream_up(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, upstream: Fault
) -> None:
    waits = replace(QUICK_WAITS, look_s=0.2, progress_s=0.3)
    async with _beside(tmp_path, registry, image, None, waits=waits) as (node, peer):
        layer = image.layers[0]
        assert (await node.manifest("v1")).status == 200
        peer.faults = Faults(stall_after=0)
        registry.fault("blobs", layer.digest, replace(upstream))
        assert (await node.blob(layer.digest)).cut
        await until(lambda: peer.bodies > 2)  # over two connections before upstream, and again behind it
        registry.heal()
        assert (await node.blob(layer.digest)).data == layer.data
