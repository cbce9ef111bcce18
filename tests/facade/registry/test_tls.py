"""Pulls over TLS, where the kernel cannot send files: the same bytes come, cold, warm and in parts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from facade.cli.tls import server_context
from tests.facade.machine import Machine, machine
from tests.fakes.certificates import trusting, write_certificate
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    tls = await asyncio.to_thread(lambda: server_context(write_certificate(tmp_path)))
    async with machine(tmp_path / "a", registry, tls=tls) as one:
        assert one.facade.startswith("https:")
        yield one


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("tls", layer_bytes=(9 * MIB + 7, 100_000)), "v1")


async def _pull_all(node: Machine, image: FakeImage) -> set[str]:
    """Where the blobs came from."""
    sources = set()
    assert (await node.manifest("v1")).data == image.manifest.data
    for blob in image.blobs:
        answer = await node.blob(blob.digest)
        assert (answer.status, answer.cut, answer.data == blob.data) == (200, False, True)
        sources.add(answer.source)
        await node.landed(blob.digest)
    return sources


async def test_a_whole_image_comes_cold_and_warm(node: Machine, image: FakeImage) -> None:
    assert "upstream" in await _pull_all(node, image)
    assert await _pull_all(node, image) == {"local"}


async def test_clients_who_join_a_flight_get_the_same_bytes(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    layer = image.layers[0]
    answers = await asyncio.gather(*(node.blob(layer.digest) for _ in range(5)))
    assert all(answer.data == layer.data and not answer.cut for answer in answers)
    assert registry.sent[str(layer.digest)] == layer.size


async def test_parts_come_from_a_flight_and_from_disk(node: Machine, image: FakeImage) -> None:
    layer = image.layers[0]
    for _ in range(2):
        answer = await node.blob(layer.digest, Range=f"bytes=1000000-{5 * MIB}")
        assert (answer.status, answer.data == layer.data[1_000_000 : 5 * MIB + 1]) == (206, True)
        await node.landed(layer.digest)


async def test_a_body_that_fails_is_cut_short_of_its_length(
    node: Machine, registry: FakeRegistry, image: FakeImage
) -> None:
    layer = image.layers[0]
    registry.fault("blobs", layer.digest, Fault(flip_at=8 * MIB))
    answer = await node.blob(layer.digest)
    assert answer.status == 200 and answer.cut
    assert layer.data.startswith(answer.data[: 8 * MIB]) and len(answer.data) < layer.size


async def test_a_client_that_goes_away_in_the_middle_is_no_trouble_for_the_next(
    node: Machine, image: FakeImage
) -> None:
    layer = image.layers[0]
    assert (await node.blob(layer.digest)).data == layer.data
    await node.landed(layer.digest)
    connector = aiohttp.TCPConnector(ssl=trusting(), force_close=True)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=1024) as client:
        answer = await client.get(f"{node.facade}/v2/team/app/blobs/{layer.digest}?ns=docker.io")
        await answer.content.readexactly(10)
        answer.close()
    assert (await node.blob(layer.digest)).data == layer.data


async def test_what_is_no_tls_is_no_trouble_for_the_next(node: Machine, image: FakeImage) -> None:
    port = int(node.facade.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"200" not in await reader.read()
    writer.close()
    assert (await node.manifest("v1")).data == image.manifest.data
