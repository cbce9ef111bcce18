"""Pulls through one node from a registry that behaves: every form and route, from upstream first, then from here."""

import asyncio

import pytest

from tests.facade.machine import Machine, machine
from tests.fakes.images import FakeImage, Flavour, make_image, make_index
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("pulls", layer_bytes=(3 * MIB, 100_000, 0)), "v1")


async def _pull_all(node: Machine, image: FakeImage) -> None:
    answer = await node.manifest("v1")
    assert answer.data == image.manifest.data
    for blob in image.blobs:
        assert (await node.blob(blob.digest)).data == blob.data
        await node.landed(blob.digest)


async def test_a_first_pull_comes_from_upstream_and_the_second_from_here(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await _pull_all(node, image)
    registry.requests.clear()
    sources = {(await node.blob(blob.digest)).source for blob in image.blobs}
    assert sources == {"local"} and not registry.asked("blobs")


async def test_a_manifest_carries_its_type_digest_and_source(node: Machine, image: FakeImage) -> None:
    answer = await node.manifest("v1")
    assert answer.status == 200 and answer.source == "upstream"
    assert answer.headers["Content-Type"] == image.manifest.media_type
    assert answer.headers["Docker-Content-Digest"] == str(image.manifest.digest)
    assert answer.headers["OCI-Namespace"] == "docker.io"


@pytest.mark.parametrize("selector", ["v1", "digest"])
async def test_head_tells_what_get_would_send(node: Machine, image: FakeImage, selector: str) -> None:
    selector = str(image.manifest.digest) if selector == "digest" else selector
    answer = await node.get(f"/v2/team/app/manifests/{selector}?ns=docker.io", "HEAD")
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(image.manifest.size)
    assert answer.headers["Docker-Content-Digest"] == str(image.manifest.digest)


async def test_head_of_a_blob_tells_its_size_without_fetching_it(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    answer = await node.get(f"/v2/team/app/blobs/{image.layers[0].digest}?ns=docker.io", "HEAD")
    assert answer.headers["Content-Length"] == str(image.layers[0].size)
    assert not registry.asked("blobs")


async def test_every_form_reaches_the_same_repository(node: Machine, image: FakeImage) -> None:
    urls = [
        f"{node.facade}/v2/team/app/manifests/v1?ns=docker.io",
        f"{node.facade}/v2/docker.io/team/app/manifests/v1",
        f"{node.docker}/v2/team/app/manifests/v1",
        f"{node.docker}/v2/team/app/manifests/v1?ns=docker.io",
    ]
    assert {(await node.ask(url)).data for url in urls} == {image.manifest.data}


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_an_index_and_its_children_are_pulled(node: Machine, registry: FakeRegistry, flavour: Flavour) -> None:
    index = registry.push("team/multi", make_index("multi", flavour=flavour), "v1")
    answer = await node.manifest("v1", name="team/multi")
    assert answer.headers["Content-Type"] == index.manifest.media_type
    for child in index.images:
        assert (await node.manifest(child.manifest.digest, name="team/multi")).data == child.manifest.data
        for blob in child.blobs:
            assert (await node.blob(blob.digest, name="team/multi")).data == blob.data


async def test_a_range_of_a_blob_that_is_here(node: Machine, image: FakeImage) -> None:
    await _pull_all(node, image)
    layer = image.layers[0]
    part = await node.blob(layer.digest, Range="bytes=1000-1999")
    assert (part.status, part.data) == (206, layer.data[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{layer.size}"


async def test_a_resume_of_a_blob_that_is_not_here_is_answered_at_once_and_the_whole_is_kept(
    node: Machine, registry: FakeRegistry
) -> None:
    image = registry.push("team/app", make_image("resume", layer_bytes=(12 * MIB,)), "v1")
    layer = image.layers[0]
    await node.manifest("v1")
    start = layer.size - 1000
    part = await node.blob(layer.digest, Range=f"bytes={start}-")
    assert (part.status, part.data) == (206, layer.data[start:])
    assert (await node.blob(layer.digest)).data == layer.data


async def test_a_range_outside_the_blob_is_416_with_its_size(node: Machine, image: FakeImage) -> None:
    await _pull_all(node, image)
    answer = await node.blob(image.layers[0].digest, Range="bytes=99999999-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{image.layers[0].size}"


async def test_concurrent_requests_for_a_blob_share_one_flight(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    layer = image.layers[0]
    answers = await asyncio.gather(*(node.blob(layer.digest) for _ in range(16)))
    assert {answer.data for answer in answers} == {layer.data}
    assert registry.sent[str(layer.digest)] == layer.size
    assert {answer.source for answer in answers} <= {"upstream", "flight", "local"}


async def test_a_blob_is_kept_even_when_its_client_leaves(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    layer = image.layers[0]
    async with node.session.get(f"{node.facade}/v2/docker.io/team/app/blobs/{layer.digest}") as answer:
        await answer.content.read(1)
    assert (await node.blob(layer.digest)).data == layer.data
    assert registry.sent[str(layer.digest)] == layer.size


async def test_a_known_tag_is_confirmed_by_one_head(node: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    await _pull_all(node, image)
    registry.requests.clear()
    answer = await node.manifest("v1")
    assert answer.source == "local"
    assert [(seen.kind, seen.method) for seen in registry.requests] == [("manifests", "HEAD")]


async def test_a_moved_tag_is_seen_at_once(node: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    await _pull_all(node, image)
    moved = registry.push("team/app", make_image("moved"), "v1")
    assert (await node.manifest("v1")).data == moved.manifest.data


async def test_a_warm_manifest_by_digest_asks_nobody(node: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    await _pull_all(node, image)
    await node.manifest(image.manifest.digest)
    registry.requests.clear()
    answers = [await node.manifest(image.manifest.digest) for _ in range(3)]
    assert {answer.data for answer in answers} == {image.manifest.data} and not registry.requests


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_a_mirror_refuses_to_be_written(node: Machine, registry: FakeRegistry, method: str) -> None:
    answer = await node.get("/v2/docker.io/team/app/manifests/v1", method)
    assert answer.status == 405 and b"UNSUPPORTED" in answer.data
    assert not registry.requests


@pytest.mark.parametrize(
    "path",
    [
        "/v2/team/app/manifests/v1?ns=evil.test",
        "/v2/evil.test/team/app/manifests/v1",
        "/v2/team/app/manifests/v1?ns=127.0.0.1:1",
        "/v2/team/app/manifests/v1",
    ],
)
async def test_an_unknown_namespace_is_404_and_never_dialled(node: Machine, registry: FakeRegistry, path: str) -> None:
    answer = await node.get(path)
    assert answer.status == 404 and b"NAME_UNKNOWN" in answer.data
    assert not registry.requests


async def test_what_upstream_does_not_have_is_an_oci_error(node: Machine, registry: FakeRegistry) -> None:
    answer = await node.manifest("missing")
    assert answer.status == 404 and b"MANIFEST_UNKNOWN" in answer.data


async def test_a_blob_of_another_repository_is_not_served_without_upstreams_word(
    node: Machine, registry: FakeRegistry
) -> None:
    async with machine(node.store.folder.parent / "b", registry, public=False) as private:
        image = registry.push("team/secret", make_image("secret"), "v1")
        await private.manifest("v1", name="team/secret")
        layer = image.layers[0]
        await private.blob(layer.digest, name="team/secret")
        assert (await private.blob(layer.digest, name="team/other")).status == 404


async def test_the_api_version_is_answered(node: Machine) -> None:
    answer = await node.get("/v2/")
    assert answer.status == 200 and answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


async def test_a_cold_pull_asks_upstream_once_for_each_thing_it_needs(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.get("/v2/team/app/manifests/v1?ns=docker.io", "HEAD")
    await node.manifest(image.manifest.digest)
    for blob in image.blobs:
        await node.blob(blob.digest)
    asked = [(seen.kind, seen.method) for seen in registry.requests]
    assert asked == [("manifests", "GET"), *[("blobs", "GET")] * len(image.blobs)]
