"""A node that is stopped in the middle of a body."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession

from node.digest import Digest
from tests.facade.cli.started import LIMIT_S, Started, started
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry

LAYER_BYTES = 40_000_000
"""More than the sockets between a node and a client that does not read can hold."""


@dataclass
class Scene:
    """A node, a client, and a layer that it gives."""

    node: Started
    session: ClientSession
    layer: Digest
    data: Path

    def url(self, kind: str, selector: object) -> str:
        """Where the client asks."""
        return f"http://{self.node.address('facade')}/v2/docker.io/library/app/{kind}/{selector}"

    async def read_all(self) -> str:
        """The layer's hash, as the client got it."""
        async with self.session.get(self.url("blobs", self.layer)) as response:
            return await rest_of(response, hashlib.sha256())

    async def refuses(self) -> None:
        """Wait until nobody new is let in."""
        host, _, port = self.node.address("facade").rpartition(":")
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except ConnectionError:
                    return
                writer.close()


async def rest_of(response: ClientResponse, hasher: "hashlib._Hash") -> str:
    """The hash of all that comes still."""
    async for piece in response.content.iter_any():
        hasher.update(piece)
    return hasher.hexdigest()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A node that knows the image's manifest, but not its layer yet."""
    async with FakeRegistry() as registry:
        image = registry.push("library/app", make_image("stop", (LAYER_BYTES,)), "latest")
        upstream = f"docker.io={registry.url}"
        with started(tmp_path, tmp_path / "data", "--upstream", upstream) as node:
            async with ClientSession() as session:
                scene = Scene(node, session, image.layers[0].digest, tmp_path / "data")
                async with session.get(scene.url("manifests", image.manifest.digest)) as response:
                    assert response.status == 200, await response.text()
                yield scene


@pytest.mark.parametrize("temperature", ["cold", "warm"])
async def test_a_body_under_way_is_finished_before_the_node_ends(scene: Scene, temperature: str) -> None:
    if temperature == "warm":
        await scene.read_all()
    async with scene.session.get(scene.url("blobs", scene.layer)) as response:
        hasher = hashlib.sha256(await response.content.readexactly(1))
        scene.node.stop()
        await scene.refuses()
        assert await rest_of(response, hasher) == scene.layer.hex
    status, logged = await asyncio.to_thread(scene.node.ended)
    assert (status, "Traceback" in logged) == (0, False), logged


@pytest.mark.parametrize("temperature", ["cold", "warm"])
async def test_a_second_signal_cuts_and_leaves_nothing_half_written(scene: Scene, temperature: str) -> None:
    if temperature == "warm":
        await scene.read_all()
    async with scene.session.get(scene.url("blobs", scene.layer)) as response:
        hasher = hashlib.sha256(await response.content.readexactly(1))
        scene.node.stop()
        await scene.refuses()
        scene.node.stop()
        status, logged = await asyncio.to_thread(scene.node.ended)
        with pytest.raises(ClientPayloadError):
            await rest_of(response, hasher)
    assert (status, "Traceback" in logged) == (0, False), logged
    assert not list((scene.data / "incoming").iterdir())
