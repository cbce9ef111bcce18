"""The layer behind the one that a client takes is fetched ahead, once, and never at the client's cost."""

import pytest

from tests.facade.machine import Machine
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("ahead", layer_bytes=(2_000_000, 1_500_000, 10_000)), "v1")


async def test_the_layer_behind_is_here_before_it_is_asked_for_and_was_fetched_once(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    first, second, third = image.layers
    assert (await node.blob(first.digest)).source == "upstream"
    await node.landed(second.digest)
    assert not registry.asked("blobs", selector=third.digest)
    answer = await node.blob(second.digest)
    assert (answer.data, answer.source) == (second.data, "local")
    await node.landed(third.digest)
    assert [len(registry.asked("blobs", selector=layer.digest)) for layer in image.layers] == [1, 1, 1]


async def test_who_looks_at_a_config_or_a_part_of_a_layer_has_nothing_fetched_ahead(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    first, second, _ = image.layers
    await node.blob(image.config.digest)
    assert (await node.blob(first.digest, Range="bytes=0-9")).status == 206
    await node.get(f"/v2/team/app/blobs/{first.digest}?ns=docker.io", "HEAD")
    await node.landed(first.digest)
    assert not registry.asked("blobs", selector=second.digest)


async def test_a_layer_that_cannot_be_fetched_ahead_is_fetched_when_it_is_asked_for(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    first, second, _ = image.layers
    await node.manifest("v1")
    registry.fault("blobs", second.digest, Fault(status=500))
    assert (await node.blob(first.digest)).data == first.data
    await registry.until(lambda: bool(registry.asked("blobs", selector=second.digest)))
    registry.heal()
    assert (await node.blob(second.digest)).data == second.data


async def test_a_layer_that_does_not_come_is_not_fetched_ahead_again_and_again(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    first, second, _ = image.layers
    await node.manifest("v1")
    registry.fault("blobs", second.digest, Fault(flip_at=5))
    await node.blob(first.digest)
    await node.landed(first.digest)
    await registry.until(lambda: bool(registry.asked("blobs", selector=second.digest)))
    asked = len(registry.asked("blobs", selector=second.digest))
    for _ in range(5):
        assert (await node.blob(first.digest)).source == "local"
    assert len(registry.asked("blobs", selector=second.digest)) == asked


async def test_nothing_is_fetched_ahead_onto_a_disk_that_is_nearly_full(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    async def room() -> int:
        return image.layers[1].size - 1

    node.store.room = room  # type: ignore[method-assign]
    await node.manifest("v1")
    await node.blob(image.layers[0].digest)
    await node.landed(image.layers[0].digest)
    assert not registry.asked("blobs", selector=image.layers[1].digest)


async def test_a_manifest_that_nobody_was_given_says_nothing(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.get("/v2/team/app/manifests/v1?ns=docker.io", "HEAD")
    await node.blob(image.layers[0].digest)
    await node.landed(image.layers[0].digest)
    assert not registry.asked("blobs", selector=image.layers[1].digest)
