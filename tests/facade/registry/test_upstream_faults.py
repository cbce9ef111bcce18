"""Pulls through one node while upstream misbehaves: the right bytes, or the clean failure a runtime can act on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from facade.registry.proofs import UNPROVED
from facade.upstream.config import Access
from facade.upstream.credentials import Credentials, Login
from node.manifest import parse_manifest
from node.reference import Repository
from tests.facade.machine import QUICK_LIMITS, QUICK_WAITS, Machine, machine
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

MIB = 1024 * 1024


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("faults", (6 * MIB, 300_000)), "v1")


def _whole(answer_data: bytes, data: bytes) -> bool:
    return len(answer_data) == len(data)


@pytest.mark.parametrize("fault", [Fault(cut_after=2 * MIB, times=1), Fault(stall_after=2 * MIB, times=1)])
async def test_a_body_that_breaks_once_reaches_the_client_unbroken(
    node: Machine, registry: FakeRegistry, image: FakeImage, fault: Fault
) -> None:
    await node.manifest("v1")
    registry.fault("blobs", image.layers[0].digest, fault)
    answer = await node.blob(image.layers[0].digest)
    assert answer.data == image.layers[0].data


@pytest.mark.parametrize("at", [0, 3 * MIB, 6 * MIB])
async def test_wrong_bytes_are_never_passed_off_as_complete(
    node: Machine, registry: FakeRegistry, image: FakeImage, at: int
) -> None:
    await node.manifest("v1")
    layer = image.layers[0]
    registry.fault("blobs", layer.digest, Fault(flip_at=at))
    answer = await node.blob(layer.digest)
    assert answer.cut or answer.status == 404
    assert not _whole(answer.data, layer.data)
    assert await node.store.find(layer.digest) is None
    registry.heal()
    assert (await node.blob(layer.digest)).data == layer.data


async def test_wrong_bytes_of_a_small_blob_are_refused_before_the_headers(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    registry.fault("blobs", image.layers[1].digest, Fault(flip_at=0))
    assert (await node.blob(image.layers[1].digest)).status == 404


async def test_a_length_that_contradicts_the_descriptor_is_404_before_the_headers(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    registry.fault("blobs", image.layers[0].digest, Fault(length=5 * MIB))
    assert (await node.blob(image.layers[0].digest)).status == 404


async def test_gzip_that_nobody_asked_for_is_decoded_and_never_taken_for_the_blob(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    registry.fault("blobs", image.layers[0].digest, Fault(encoding="gzip"))
    assert (await node.blob(image.layers[0].digest)).data == image.layers[0].data


@pytest.mark.parametrize(
    ("fault", "mirror", "full_name"),
    [
        (Fault(status=404), 404, 404),
        (Fault(status=401), 404, 404),
        (Fault(status=403), 404, 404),
        (Fault(status=500), 404, 503),
        (Fault(status=429, retry_after="7"), 404, 429),
        (Fault(reset=True), 404, 503),
        (Fault(silent=True), 404, 503),
        (Fault(data=b"{}"), 404, 503),
        (Fault(data=b"<html>"), 404, 503),
    ],
)
async def test_a_manifest_that_cannot_be_had_sends_a_mirrors_client_elsewhere(
    node: Machine, registry: FakeRegistry, image: FakeImage, fault: Fault, mirror: int, full_name: int
) -> None:
    registry.fault("manifests", "*", fault)
    assert (await node.manifest("v1")).status == mirror
    registry.fault("manifests", "*", fault)
    answer = await node.get("/v2/docker.io/team/app/manifests/v1")
    assert answer.status == full_name and b'"errors"' in answer.data
    if full_name == 429:
        assert answer.headers["Retry-After"] == "7"
    registry.heal()


async def test_no_failure_is_remembered(node: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    registry.fault("manifests", "*", Fault(status=404, times=1))
    assert (await node.manifest("v1")).status == 404
    assert (await node.manifest("v1")).status == 200


async def test_with_upstream_gone_what_is_here_is_served_and_says_how_old_the_tag_is(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    for blob in image.blobs:
        await node.blob(blob.digest)
        await node.landed(blob.digest)
    await registry.stop()
    answer = await node.manifest("v1")
    assert answer.data == image.manifest.data and answer.source == "local"
    assert int(answer.headers["Age"]) >= 0 and "this node" in answer.headers["Warning"]
    assert (await node.manifest(image.manifest.digest)).status == 200


async def test_a_manifest_whose_blobs_cannot_be_had_is_not_answered(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    await registry.stop()
    assert (await node.manifest("v1")).status == 404
    assert (await node.manifest(image.manifest.digest)).status == 404


async def test_what_only_credentials_open_is_refused_so_that_the_runtime_goes_direct(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    registry.auth = Basic({"me": "secret"})
    known = Credentials({(registry.address, ""): Login("me", "secret")})
    async with machine(tmp_path / "refusing", registry, credentials=known) as node:
        assert (await node.manifest("v1")).status == 404
    async with machine(tmp_path / "granting", registry, credentials=known, access=Access.CREDENTIALS) as node:
        assert (await node.manifest("v1")).data == image.manifest.data
        assert (await node.blob(image.layers[0].digest)).data == image.layers[0].data
        await node.landed(image.layers[0].digest)
        holding = await node.store.find(image.layers[0].digest)
        assert holding is not None and holding.visibility == "private"


async def test_what_an_anonymous_reader_cannot_have_is_not_fetched_with_credentials_by_naming_its_digest(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    registry.auth = Basic({"me": "secret"})
    known = Credentials({(registry.address, ""): Login("me", "secret")})
    manifest = parse_manifest(image.manifest.data, None, image.manifest.digest)
    async with machine(tmp_path / "refusing", registry, credentials=known) as node:
        await node.store.repositories.record(Repository("docker.io", "team/app"), manifest, UNPROVED)
        for headers in ({}, {"Range": "bytes=0-9"}):
            assert (await node.blob(image.layers[0].digest, **headers)).status == 404
        assert (await node.get(f"/v2/other/x/blobs/{image.layers[0].digest}?ns=docker.io", "HEAD")).status == 404


async def test_a_failure_in_one_repository_is_not_handed_to_another_that_has_the_blob(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    layer = image.layers[0]
    registry.push("other/x", image, "v1")
    assert (await node.manifest("v1", "other/x")).status == 200
    assert (await node.manifest("v1")).status == 200
    registry.delete("other/x", layer.digest)
    registry.fault("blobs", layer.digest, Fault(drip=(1, 0.2), times=1))
    answers = await asyncio.gather(node.blob(layer.digest, "other/x"), node.blob(layer.digest))
    assert answers[1].data == layer.data


async def test_a_slow_manifest_does_not_make_a_confirmed_tag_old(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    moved = registry.push("team/app", make_image("moved"), "v1")
    registry.fault("manifests", moved.manifest.digest, Fault(drip=(len(moved.manifest.data) // 4, 0.4)))
    answer = await node.manifest("v1")
    assert answer.data == moved.manifest.data and "Warning" not in answer.headers


async def test_an_upstream_that_asks_for_patience_is_not_asked_and_what_is_here_is_served_with_its_age(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    await node.manifest("v1")
    for blob in image.blobs:
        await node.blob(blob.digest)
        await node.landed(blob.digest)
    registry.fault("manifests", "*", Fault(status=429, retry_after="600", times=1))
    registry.requests.clear()
    for _ in range(2):
        answer = await node.manifest("v1")
        assert answer.data == image.manifest.data and "this node" in answer.headers["Warning"]
    assert len(registry.requests) == 1
    unknown = await node.get("/v2/docker.io/team/app/manifests/v2")
    assert (unknown.status, len(registry.requests)) == (429, 1)
    assert 590 <= int(unknown.headers["Retry-After"]) <= 600


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
async def test_a_date_that_no_calendar_has_is_no_reason_to_fail(
    node: Machine, registry: FakeRegistry, image: FakeImage, kind: Literal["manifests", "blobs"]
) -> None:
    if kind == "blobs":
        await node.manifest("v1")
    registry.fault(kind, "*", Fault(status=429, retry_after="Mon, 01 Jan 99999999999999 00:00:00 GMT"))
    path = "manifests/v1" if kind == "manifests" else f"blobs/{image.layers[0].digest}"
    assert (await node.get(f"/v2/docker.io/team/app/{path}")).status == 429


@pytest.fixture
async def hasty(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    """A node that soon sends clients elsewhere, though it waits long for upstream itself."""
    waits, limits = replace(QUICK_WAITS, handover_s=0.2), replace(QUICK_LIMITS, headers_s=20.0)
    async with machine(tmp_path / "hasty", registry, waits=waits, limits=limits) as one:
        yield one


async def test_while_upstream_is_silent_a_mirrors_client_is_sent_there_and_the_question_goes_on(
    hasty: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    registry.fault("manifests", "*", Fault(silent=True))
    assert (await hasty.manifest("v1")).status == 404
    assert (await hasty.manifest("v1")).status == 404
    assert len(registry.asked("manifests")) == 1
    registry.heal()
    assert (await hasty.manifest("v1")).status == 200

    registry.fault("blobs", "*", Fault(silent=True))
    layer = image.layers[0]
    assert (await hasty.blob(layer.digest)).status == 404
    assert (await hasty.blob(layer.digest)).status == 404
    assert len(registry.asked("blobs", "GET")) == 1
    registry.heal()
    assert (await hasty.blob(layer.digest)).data == layer.data


async def test_a_mirrors_client_that_learned_of_a_blob_elsewhere_is_not_kept_waiting_by_a_silent_upstream(
    hasty: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    registry.fault("blobs", "*", Fault(silent=True))
    async with asyncio.timeout(QUICK_WAITS.answer_s):
        assert (await hasty.blob(image.layers[0].digest)).status == 404


async def test_an_upstream_that_drips_is_not_silent(hasty: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    assert (await hasty.manifest("v1")).status == 200
    small = image.layers[1]  # it is verified before the headers
    registry.fault("blobs", small.digest, Fault(drip=(10_000, 0.02)))
    assert (await hasty.blob(small.digest)).data == small.data


async def test_who_asks_by_full_name_waits_for_a_silent_upstream(
    hasty: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    registry.fault("manifests", "*", Fault(silent=True, times=1))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(hasty.get("/v2/docker.io/team/app/manifests/v1"))
        await registry.until(lambda: bool(registry.asked("manifests")))
        assert (await hasty.manifest("v1")).status == 404  # by then it would have been sent away
        assert not asked.done()
        registry.heal()
    assert asked.result().data == image.manifest.data
