"""Pulls through a node that stands on a Kubo: what enters it, what comes from it, and what is told of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cluster import Holder
from facade.admin.status import ipfs
from facade.settings import Waits
from node.cid import Cid
from node.ipfs.kubo.kubo import Timings
from node.reference import Repository
from node.visibility import Visibility
from tests.facade.machine import QUICK_KUBO, QUICK_WAITS, Machine, machine, until
from tests.facade.members import SECRET
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.peer import FakePeer, dag_of, fake_peer
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024


@pytest.fixture
async def kubo() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo) -> AsyncIterator[Machine]:
    async with machine(tmp_path / "n", registry, kubo=kubo) as one:
        await until(lambda: one.kubo.kubo.usable)
        yield one


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("kubo", layer_bytes=(3 * MIB, 1000)), "v1")


async def pull(node: Machine, image: FakeImage) -> None:
    """Have the image on the node's disk."""
    assert (await node.manifest("v1")).data == image.manifest.data
    for blob in image.blobs:
        assert (await node.blob(blob.digest)).data == blob.data
        await node.landed(blob.digest)


def roots(image: FakeImage) -> set[Cid]:
    """The CIDs of all that the image consists of."""
    return {dag_of(blob.data).root for blob in (image.manifest, *image.blobs)}


async def test_what_anybody_may_have_is_pinned_under_its_digest(
    node: Machine, kubo: FakeKubo, image: FakeImage
) -> None:
    await pull(node, image)
    await until(lambda: kubo.pinned.keys() == roots(image))
    names = {kubo.pinned[dag_of(blob.data).root] for blob in image.blobs}
    assert names == {f"layermesh/{node.store.node_id}/{blob.digest}" for blob in image.blobs}


async def test_what_needs_a_login_never_enters_it_nor_is_asked_for(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with machine(tmp_path / "n", registry, kubo=kubo, public=False) as node:
        await until(lambda: node.kubo.publisher.in_step)
        kubo.asked.clear()
        await pull(node, image)
        assert not kubo.pinned and not kubo.blocks
        assert not {each for each in kubo.asked if each.startswith("/ipfs/baf")} - {"/ipfs/bafkqaaa"}
        assert "block/stat" not in kubo.asked


async def test_a_blob_that_is_dropped_is_unpinned(node: Machine, kubo: FakeKubo, image: FakeImage) -> None:
    await pull(node, image)
    await until(lambda: kubo.pinned.keys() == roots(image))
    await node.store.drop(image.layers[0].digest)
    await until(lambda: kubo.pinned.keys() == roots(image) - {dag_of(image.layers[0].data).root})


async def test_what_others_pinned_is_left_to_them(node: Machine, kubo: FakeKubo, image: FakeImage) -> None:
    theirs = kubo.keep(image.layers[0].data, name="precious")
    await pull(node, image)
    await until(lambda: kubo.pinned.keys() == roots(image))
    assert kubo.pinned[theirs] == "precious"
    await node.store.drop(image.layers[0].digest)
    await node.store.drop(image.config.digest)
    await until(lambda: dag_of(image.config.data).root not in kubo.pinned)
    assert kubo.pinned[theirs] == "precious"


async def test_another_daemon_is_given_everything_anew(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with fake_kubo() as first, machine(tmp_path / "n", registry, kubo=first) as node:
        await pull(node, image)
        await until(lambda: first.pinned.keys() == roots(image))
        first.peer_id = "12D3KooWAnotherAnotherAnotherAnotherAnotherAnotherAn"
        first.pinned.clear()
        first.blocks.clear()
        await until(lambda: first.pinned.keys() == roots(image))
        assert ipfs(node.kubo).peer_id == first.peer_id


async def test_what_was_to_be_published_is_known_after_a_restart(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with machine(tmp_path / "n", registry) as node:
        await pull(node, image)
    kubo.keep(b"dropped meanwhile", name=f"layermesh/{node.store.node_id}/sha256:{'0' * 64}")
    async with machine(tmp_path / "n", registry, kubo=kubo) as node:
        await until(lambda: kubo.pinned.keys() == roots(image))
        assert node.kubo.publisher.in_step


async def test_a_blob_that_is_here_no_longer_comes_from_the_own_kubo(
    node: Machine, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    await pull(node, image)
    await until(lambda: kubo.pinned.keys() == roots(image))
    registry.requests.clear()
    for blob in image.blobs:
        await node.store.drop(blob.digest)
        answer = await node.blob(blob.digest)
        assert (answer.source, answer.data) == ("ipfs", blob.data)
    assert not registry.asked("blobs")
    assert node.metrics.fetched_bytes["ipfs"] == sum(blob.size for blob in image.blobs)


@asynccontextmanager
async def alone(
    folder: Path,
    registry: FakeRegistry,
    kubo: FakeKubo,
    image: FakeImage,
    waits: Waits = QUICK_WAITS,
    kubo_timings: Timings = QUICK_KUBO,
) -> AsyncIterator[tuple[Machine, FakeKubo]]:
    """A node that knows from a member who has gone what the image's CIDs are; and his Kubo, which is still there."""
    async with fake_kubo(FakeKubo(peer_id="12D3KooWTheirsTheirsTheirsTheirsTheirsTheirsTheirsTh")) as theirs:
        kubo.swarm.append(theirs)
        async with fake_peer(FakePeer(secret=SECRET)) as peer:
            for blob in (image.manifest, *image.blobs):
                peer.hold(blob.data)
            joins = (str(peer.url),)
            async with machine(
                folder, registry, kubo=kubo, secret=SECRET, joins=joins, waits=waits, kubo_timings=kubo_timings
            ) as node:
                await until(lambda: node.cluster.holders(image.layers[0].digest) and node.kubo.kubo.usable)
                await peer.leave()
                await until(lambda: not node.cluster.holders(image.layers[0].digest))
                yield node, theirs


@pytest.fixture
async def left_alone(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> AsyncIterator[tuple[Machine, FakeKubo]]:
    async with alone(tmp_path / "n", registry, kubo, image) as found:
        yield found


async def test_what_a_member_who_is_gone_named_comes_from_the_swarm(
    left_alone: tuple[Machine, FakeKubo], registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    node, theirs = left_alone
    for blob in (image.manifest, *image.blobs):
        theirs.keep(blob.data, name="")
    await registry.stop()
    manifest = await node.manifest(image.manifest.digest)
    assert (manifest.source, manifest.data) == ("ipfs", image.manifest.data)
    for blob in image.blobs:
        answer = await node.blob(blob.digest)  # the layer behind one that is taken is fetched meanwhile
        assert answer.source in ("ipfs", "flight", "local") and answer.data == blob.data  # or landed already
    assert kubo.from_swarm >= sum(blob.size for blob in image.blobs)


async def test_what_nobody_has_comes_from_upstream_almost_as_soon_as_ever(
    left_alone: tuple[Machine, FakeKubo], kubo: FakeKubo, image: FakeImage
) -> None:
    node, _ = left_alone
    assert Waits().swarm_s <= 0.3
    answer = await node.blob(image.layers[0].digest)
    assert (answer.source, answer.data) == ("upstream", image.layers[0].data)
    assert f"/ipfs/{dag_of(image.layers[0].data).root}" in kubo.asked


async def test_a_kubo_that_kept_a_pull_waiting_is_not_asked_for_what_a_member_named(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    once = replace(QUICK_KUBO, here_s=0.1, look_every_s=3600.0)
    async with alone(tmp_path / "n", registry, kubo, image, kubo_timings=once) as (node, _):
        kubo.faults.stat_s = 0.2
        assert not await node.kubo.kubo.here(dag_of(image.layers[0].data).root)
        kubo.faults.stat_s = 0.0
        assert node.kubo.kubo.usable and not node.kubo.kubo.is_prompt
        kubo.asked.clear()
        assert (await node.manifest(image.manifest.digest)).source == "upstream"
        assert (await node.blob(image.layers[0].digest)).source == "upstream"
        assert "pin/add" not in kubo.asked and not [each for each in kubo.asked if each.startswith("/ipfs/")]


async def test_a_member_whose_kubo_gives_nothing_costs_one_blob_of_a_pull_a_moment(
    left_alone: tuple[Machine, FakeKubo], kubo: FakeKubo, image: FakeImage
) -> None:
    node, _ = left_alone
    assert (await node.blob(image.layers[0].digest)).source == "upstream"
    kubo.asked.clear()
    for blob in (image.manifest, image.layers[1], image.config):
        route = node.manifest if blob is image.manifest else node.blob
        assert (await route(blob.digest)).source == "upstream"
    assert not [each for each in kubo.asked if each.startswith("/ipfs/baf") and "bafkqaaa" not in each]


async def test_a_slow_swarm_is_waited_for_where_upstream_gives_nothing(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    layer = image.layers[1]
    async with alone(tmp_path / "n", registry, kubo, image, replace(QUICK_WAITS, swarm_s=0.05)) as (node, theirs):
        assert (await node.manifest("v1")).status == 200
        theirs.keep(layer.data)
        kubo.faults.swarm_s = 0.5
        registry.fault("blobs", layer.digest, Fault(status=503))
        answer = await node.blob(layer.digest)
        assert (answer.source, answer.data) == ("ipfs", layer.data)
        assert registry.asked("blobs")


async def test_what_stops_in_the_middle_of_the_swarm_goes_on_from_upstream(
    left_alone: tuple[Machine, FakeKubo], registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    node, theirs = left_alone
    layer = image.layers[0]
    theirs.keep(layer.data)
    del theirs.blocks[dag_of(layer.data).leaf(2).cid]
    answer = await node.blob(layer.digest)
    assert (answer.source, answer.data) == ("ipfs", layer.data)
    assert registry.asked("blobs")[-1].headers["Range"].startswith("bytes=")


async def test_where_upstream_fails_even_what_nobody_named_is_looked_for(
    node: Machine, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    async with fake_kubo(FakeKubo(peer_id="12D3KooWTheirsTheirsTheirsTheirsTheirsTheirsTheirsTh")) as theirs:
        assert (await node.manifest("v1")).status == 200  # which proves that anybody may have what it names
        theirs.keep(image.config.data)
        kubo.swarm.append(theirs)
        registry.fault("blobs", image.config.digest, Fault(status=503))
        answer = await node.blob(image.config.digest)
        assert (answer.source, answer.data) == ("ipfs", image.config.data)


async def test_nodes_introduce_their_kubos_to_each_other(tmp_path: Path, registry: FakeRegistry) -> None:
    one, other = FakeKubo(), FakeKubo(peer_id="12D3KooWTheirsTheirsTheirsTheirsTheirsTheirsTheirsTh")
    async with (
        fake_kubo(one),
        fake_kubo(other),
        machine(tmp_path / "a", registry, kubo=one) as first,
        machine(tmp_path / "b", registry, kubo=other, joins=(first.mesh,)),
    ):
        await until(lambda: one.peerings and other.peerings)
        assert one.peerings == {other.peer_id: [f"/ip4/127.0.0.1/tcp/{other.rpc.port}"]}
        assert other.peerings == {one.peer_id: [f"/ip4/127.0.0.1/tcp/{one.rpc.port}"]}
        other.peer_id = "12D3KooWAnotherAnotherAnotherAnotherAnotherAnotherAn"
        await until(lambda: one.peerings == {other.peer_id: [f"/ip4/127.0.0.1/tcp/{other.rpc.port}"]})


async def test_where_there_is_a_secret_only_members_hear_of_a_kubo(tmp_path: Path, registry: FakeRegistry) -> None:
    async with (
        fake_kubo() as kubo,
        fake_peer(FakePeer()) as stranger,
        machine(tmp_path / "n", registry, kubo=kubo, secret=SECRET, joins=(str(stranger.url),)) as node,
    ):
        await until(lambda: node.kubo.kubo.peer is not None and stranger.greeted)
        async with node.session.get(f"{node.mesh}/mesh/v1/hello") as answer:
            assert kubo.peer_id.encode() not in await answer.read()
        assert all(greeting.get("daemon") is None for greeting in stranger.greeted)


async def test_however_many_cids_are_named_the_swarm_is_waited_for_once(
    tmp_path: Path, registry: FakeRegistry, kubo: FakeKubo, image: FakeImage
) -> None:
    layer = image.layers[0]
    async with (
        fake_peer(FakePeer(id="a" * 32)) as one,
        fake_peer(FakePeer(id="b" * 32)) as other,
        machine(
            tmp_path / "n",
            registry,
            kubo=kubo,
            waits=replace(QUICK_WAITS, swarm_s=0.25),
            joins=(str(one.url), str(other.url)),
        ) as node,
    ):
        for liar in (one, other):
            liar.hold(liar.id.encode() * (len(layer.data) // 32) + b"x" * (len(layer.data) % 32), layer.digest)
        await until(lambda: node.kubo.kubo.usable and len(node.cluster.named(layer.digest)) == 2)
        kubo.asked.clear()
        for liar in (one, other):
            await liar.leave()
        await until(lambda: not node.cluster.holders(layer.digest))
        answer = await node.blob(layer.digest)
        assert (answer.source, answer.data) == ("upstream", layer.data)
        assert kubo.asked.count("pin/add") == 1


async def test_peers_that_were_put_aside_long_ago_are_forgotten(
    node: Machine, image: FakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facade.ipfs.ASIDE_S", 0.0)
    monkeypatch.setattr("facade.ipfs.LOOK_S", 0.0)
    source, digest = node.kubo.source, image.config.digest
    cid = dag_of(image.config.data).root
    for number in range(100):  # a stranger has as many ids as it likes
        liar = Holder(f"{number:032x}", "liar", "http://127.0.0.1:1", cid, 1, False, Visibility.PUBLIC)
        monkeypatch.setattr(source._mappings, "named", lambda _digest, liar=liar: [liar])
        assert await source.small(Repository("docker.io", "team/app"), digest, late=False) is None
    assert len(source._aside) <= 1
