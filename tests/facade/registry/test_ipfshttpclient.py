"""Pulls through a node whose Kubo is reached by way of ipfshttpclient."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facade.admin.status import ipfs, ipfs_warnings
from node.ipfs.kubo.endpoint import Client
from tests.facade.machine import Machine, machine, until
from tests.fakes.images import FakeImage, make_image
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.peer import dag_of
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
LAYER = make_image("library", layer_bytes=(5 * MIB + 7,)).layers[0]
ROOT = dag_of(LAYER.data).root


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("library", layer_bytes=(5 * MIB + 7,)), "v1")


@pytest.fixture
async def kubo() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, image: FakeImage, kubo: FakeKubo) -> AsyncIterator[Machine]:
    """A node whose Kubo was given the image, and has it from another as well, while the node dropped the layer."""
    async with machine(tmp_path / "n", registry, kubo=kubo, kubo_client=Client.IPFSHTTPCLIENT) as one:
        assert (await one.manifest("v1")).status == 200
        for blob in image.blobs:
            assert (await one.blob(blob.digest)).status == 200
            await one.landed(blob.digest)
        await until(lambda: len(kubo.pinned) == 3)
        await one.store.drop(LAYER.digest)
        await until(lambda: ROOT not in kubo.pinned)
        kubo.asked.clear()
        yield one


async def test_what_anybody_may_have_is_published_and_read_back_without_the_upstream(
    node: Machine, kubo: FakeKubo
) -> None:
    pulled = await node.blob(LAYER.digest)
    assert (pulled.data, pulled.source) == (LAYER.data, "ipfs")
    assert "block/get" in kubo.asked
    assert not [each for each in kubo.asked if each.startswith("/ipfs/")]
    said = ipfs(node.kubo)
    assert (said.network, said.usable, said.gateway, said.version) == ("ipfshttpclient", True, None, "0.43.0")


async def test_a_kubo_that_lost_a_block_costs_no_pull(node: Machine, kubo: FakeKubo) -> None:
    del kubo.blocks[kubo.leaves(ROOT)[2]]
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: [each for each in ipfs_warnings(node.kubo) if f"Kubo lacks a part of {ROOT}" in each])


async def test_wrong_bytes_cost_no_pull(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.wrong_leaf = leaf = kubo.leaves(ROOT)[2]
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    assert [each for each in ipfs_warnings(node.kubo) if f"Kubo gave wrong bytes for {leaf}" in each]


async def test_a_frozen_kubo_costs_no_pull(node: Machine, kubo: FakeKubo) -> None:
    kubo.faults.frozen = True
    assert (await node.blob(LAYER.digest)).data == LAYER.data
    await until(lambda: "is it frozen?" in ipfs(node.kubo).state)
