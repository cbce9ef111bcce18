"""What can be wrong with a Kubo: every pull succeeds all the same, and the node says in words what is wrong."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from facade.admin.status import ipfs, ipfs_warnings
from node.errors import FullError
from tests.facade.machine import QUICK_KUBO, Machine, machine, until
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.kubo import FULL, FakeKubo, fake_kubo
from tests.fakes.peer import dag_of
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
LAYER = make_image("faulty", layer_bytes=(4 * MIB,)).layers[0]
LEAF = dag_of(LAYER.data).leaf(2).cid
ROOT = dag_of(LAYER.data).root


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("faulty", layer_bytes=(4 * MIB,)), "v1")


@pytest.fixture
async def kubo() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: FakeKubo) -> AsyncIterator[Machine]:
    """A node whose Kubo has the image, and which has dropped the layer itself."""
    async with machine(tmp_path / "n", registry, kubo=kubo) as one:
        assert (await one.manifest("v1")).status == 200
        for blob in image.blobs:
            assert (await one.blob(blob.digest)).status == 200
            await one.landed(blob.digest)
        await until(lambda: len(kubo.pinned) == 3)
        await one.store.drop(LAYER.digest)
        await until(lambda: ROOT not in kubo.pinned)
        yield one


def said(node: Machine) -> str:
    """What status says of the Kubo."""
    return ipfs(node.kubo).state


def freeze(kubo: FakeKubo) -> None:
    kubo.faults.frozen = True


def another_server(kubo: FakeKubo) -> None:
    kubo.faults.html = True


def refuse(kubo: FakeKubo) -> None:
    kubo.authorization = "Bearer something else"


def downgrade(kubo: FakeKubo) -> None:
    kubo.faults.version = "0.39.2"
    kubo.peer_id = "12D3KooWAnotherAnotherAnotherAnotherAnotherAnotherAn"


def follow_nothing(kubo: FakeKubo) -> None:
    kubo.faults.other_profile = True
    kubo.peer_id = "12D3KooWAnotherAnotherAnotherAnotherAnotherAnotherAn"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (freeze, "gives no answer: is it frozen?"),
        (another_server, "is no Kubo RPC: it said 200 'text/html"),
        (refuse, "refuses this node (403)"),
        (downgrade, "Kubo 0.39.2 is too old: at least 0.40 is needed"),
        (follow_nothing, "makes other CIDs than this node"),
    ],
)
async def test_a_kubo_that_cannot_be_used_costs_no_pull_and_is_told_of(
    node: Machine, kubo: FakeKubo, harm: Callable[[FakeKubo], None], words: str
) -> None:
    harm(kubo)
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: words in said(node))
    await node.landed(LAYER.digest)
    await node.store.drop(LAYER.digest)
    answer = await node.blob(LAYER.digest)
    assert (answer.source, answer.data) == ("upstream", LAYER.data)


async def test_a_kubo_that_is_frozen_is_asked_by_one_pull_alone(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.frozen = True
    assert (await node.blob(LAYER.digest)).source == "upstream"
    assert not node.kubo.kubo.is_prompt
    await node.landed(LAYER.digest)
    await node.store.drop(LAYER.digest)
    kubo.asked.clear()
    assert (await node.blob(LAYER.digest)).source == "upstream"
    assert "block/stat" not in kubo.asked
    kubo.faults.frozen = False
    kubo.released.set()
    await until(lambda: node.kubo.kubo.usable)


async def test_a_kubo_that_kept_a_pull_waiting_is_still_asked_where_upstream_fails(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: FakeKubo
) -> None:
    timings = replace(QUICK_KUBO, here_s=0.1, look_every_s=3600.0)
    async with machine(tmp_path / "n", registry, kubo=kubo, kubo_timings=timings) as node:
        assert (await node.manifest("v1")).status == 200
        for blob in image.blobs:
            assert (await node.blob(blob.digest)).data == blob.data
            await node.landed(blob.digest)
        await until(lambda: len(kubo.pinned) == 3)
        for blob in image.blobs:
            await node.store.drop(blob.digest)
            registry.fault("blobs", blob.digest, Fault(status=503))
        kubo.faults.stat_s = 0.2
        for blob in image.blobs:
            answer = await node.blob(blob.digest)
            assert (answer.source, answer.data) == ("ipfs", blob.data)
            assert not node.kubo.kubo.is_prompt
        assert registry.asked("blobs")


async def test_a_kubo_that_is_not_there_at_start_is_used_once_it_comes(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    kubo = FakeKubo()
    async with fake_kubo(kubo):
        pass  # its ports are known, and nobody listens there
    async with machine(tmp_path / "n", registry, kubo=kubo) as node:
        answer = await node.blob(image.config.digest)
        assert (answer.source, answer.data) == ("upstream", image.config.data)
        assert (await node.manifest("v1")).status == 200
        await until(lambda: "is away: connection refused" in said(node))
        async with fake_kubo(kubo):
            await until(lambda: dag_of(image.manifest.data).root in kubo.pinned)
            await until(lambda: said(node) == "in step")


async def test_a_kubo_that_has_gone_since_it_was_given_a_blob_costs_no_pull(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    kubo = FakeKubo()
    async with fake_kubo(kubo):
        pass  # its ports are known
    async with machine(tmp_path / "n", registry, kubo=kubo) as node:
        async with fake_kubo(kubo):
            await until(lambda: node.kubo.kubo.usable)
            assert (await node.manifest("v1")).status == 200
            assert (await node.blob(LAYER.digest)).data == LAYER.data
            await until(lambda: ROOT in kubo.pinned)
        await node.store.drop(LAYER.digest)
        answer = await node.blob(LAYER.digest)
        assert (answer.source, answer.data) == ("upstream", LAYER.data)
        await until(lambda: "is away" in said(node))


def lose_a_leaf(kubo: FakeKubo) -> None:
    del kubo.blocks[LEAF]


def collect_while_it_sends(kubo: FakeKubo) -> None:
    kubo.faults.gc_after = MIB


def damage_a_leaf(kubo: FakeKubo) -> None:
    kubo.faults.wrong_leaf = LEAF


def lose_a_leaf_and_look_for_nothing(kubo: FakeKubo) -> None:
    del kubo.blocks[LEAF]
    kubo.faults.no_fetch = True


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose_a_leaf, f"Kubo lacks a part of {ROOT}"),
        (lose_a_leaf_and_look_for_nothing, f"Kubo lacks a part of {ROOT}"),
        (collect_while_it_sends, f"Kubo lacks a part of {ROOT}"),
        (damage_a_leaf, f"Kubo gave wrong bytes for {ROOT}: `ipfs repo verify`"),
    ],
)
async def test_what_kubo_lacks_in_the_middle_comes_from_upstream_and_is_told(
    node: Machine, kubo: FakeKubo, registry: FakeRegistry, harm: Callable[[FakeKubo], None], words: str
) -> None:
    harm(kubo)
    registry.requests.clear()
    answer = await node.blob(LAYER.digest)
    assert (answer.source, answer.data, answer.cut) == ("ipfs", LAYER.data, False)
    assert registry.asked("blobs")[-1].headers["Range"].startswith("bytes=")
    await until(lambda: [each for each in ipfs_warnings(node.kubo) if words in each])
    assert ipfs(node.kubo).usable


async def test_what_stops_but_is_whole_is_not_said_to_be_lost(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.freeze_after = MIB
    answer = await node.blob(LAYER.digest)
    assert (answer.source, answer.data, answer.cut) == ("ipfs", LAYER.data, False)
    await until(lambda: "is it frozen?" in said(node))
    kubo.faults.frozen = False
    kubo.released.set()
    await until(lambda: ROOT in kubo.examined and ROOT in kubo.pinned)
    assert not ipfs_warnings(node.kubo)


async def test_an_answer_that_was_spoilt_on_its_way_is_not_said_to_be_damaged(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.encoded = True
    answer = await node.blob(LAYER.digest)
    assert (answer.source, answer.data) == ("upstream", LAYER.data)
    await until(lambda: ROOT in kubo.examined and ROOT in kubo.pinned)
    assert not ipfs_warnings(node.kubo)


async def test_what_is_told_of_a_file_does_not_hide_that_the_disk_is_full(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.wrong_leaf = LEAF
    kubo.faults.full = True
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: len(ipfs_warnings(node.kubo)) == 2)
    full, wrong = ipfs_warnings(node.kubo)
    assert full.startswith("ipfs: Kubo's disk is full") and wrong.startswith("ipfs: Kubo gave wrong bytes")


async def test_a_kubo_that_was_slow_once_is_passed_over_and_not_taken_for_frozen(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: FakeKubo
) -> None:
    timings = replace(QUICK_KUBO, here_s=0.1)
    async with machine(tmp_path / "n", registry, kubo=kubo, kubo_timings=timings) as node:
        assert (await node.manifest("v1")).status == 200
        assert (await node.blob(LAYER.digest)).data == LAYER.data
        await node.landed(LAYER.digest)
        await until(lambda: ROOT in kubo.pinned)
        await node.store.drop(LAYER.digest)
        await until(lambda: ROOT not in kubo.pinned)
        kubo.faults.stat_s = 0.2
        kubo.asked.clear()
        assert (await node.blob(LAYER.digest)).source == "upstream"
        await node.landed(LAYER.digest)
        await until(lambda: ROOT in kubo.pinned and node.kubo.kubo.is_prompt)
        assert kubo.asked.count("pin/ls") == 1  # of the blob that came: nothing was compared anew
        assert not ipfs_warnings(node.kubo)
        kubo.faults.stat_s = 0.0
        await node.store.drop(LAYER.digest)
        assert (await node.blob(LAYER.digest)).source == "ipfs"


async def test_a_warning_says_what_is_wrong_until_it_is_well_again(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.html = True
    await until(lambda: not node.kubo.kubo.usable)
    (warning,) = ipfs_warnings(node.kubo)
    assert warning.startswith(f"ipfs: what answers at {kubo.rpc} is no Kubo RPC")
    kubo.faults.html = False
    await until(lambda: not ipfs_warnings(node.kubo))


async def test_a_full_disk_of_kubo_is_told_and_published_to_again_when_it_has_room(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: FakeKubo
) -> None:
    kubo.faults.full = True
    async with machine(tmp_path / "n", registry, kubo=kubo) as node:
        assert (await node.manifest("v1")).status == 200
        assert (await node.blob(LAYER.digest)).data == LAYER.data
        await until(lambda: node.kubo.publisher.trouble)
        assert ipfs(node.kubo).usable
        assert ipfs_warnings(node.kubo)[0].startswith("ipfs: Kubo's disk is full: committing batch")
        kubo.faults.full = False
        await until(lambda: ROOT in kubo.pinned)
        await until(lambda: node.kubo.publisher.trouble is None and not ipfs_warnings(node.kubo))


async def test_a_disk_that_is_full_when_a_file_is_fetched_from_the_swarm_is_told(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.full = True
    with pytest.raises(FullError):
        await node.kubo.kubo.fetch(ROOT, LAYER.digest)
    assert ipfs_warnings(node.kubo) == [f"ipfs: Kubo's disk is full: {FULL}"]
    kubo.faults.full = False
    await node.kubo.kubo.fetch(ROOT, LAYER.digest)  # all of it is there: no room was needed
    assert ipfs_warnings(node.kubo)
    await node.kubo.kubo.unpin(ROOT)
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: ROOT in kubo.pinned and not ipfs_warnings(node.kubo))


async def test_an_upload_whose_end_was_lost_is_not_taken_for_the_blob(
    node: Machine, kubo: FakeKubo, image: FakeImage
) -> None:
    kubo.collect()
    kubo.faults.cut_upload = True
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: node.kubo.publisher.trouble)
    (warning,) = ipfs_warnings(node.kubo)
    assert warning.startswith(f"ipfs: {LAYER.digest} is not published: {LAYER.digest}: Kubo added it as")
    assert kubo.pinned.keys() == {dag_of(blob.data).root for blob in (image.manifest, image.config)}


async def test_an_upload_that_breaks_is_tried_once_more(node: Machine, kubo: FakeKubo) -> None:
    kubo.collect()
    kubo.faults.reset_adds = 1
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: ROOT in kubo.pinned)
    assert node.kubo.publisher.trouble is None
