"""Two nodes as processes that share a private registry over TLS."""

import asyncio
import base64
import json
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.facade.cli.started import LIMIT_S, Started, started
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

NAME = "corp.test/team/app"


def configured(folder: Path, registry: FakeRegistry, *, login: bool) -> tuple[str, ...]:
    """The flags of a node that shares a registry, and may have a login for it."""
    secret, credentials, file = folder / "secret", folder / "config.json", folder / "layermesh.toml"
    secret.write_bytes(b"what all of this cluster know")
    secret.chmod(0o600)
    auth = base64.b64encode(b"node:secret").decode()
    credentials.write_text(json.dumps({"auths": {registry.address: {"auth": auth}} if login else {}}))
    file.write_text(
        f'[cluster]\ntls = true\n[facade.upstreams."corp.test"]\nendpoint = "{registry.url}"\n'
        f'access = "credentials"\nshare = "cluster"\n[facade]\ncredentials = "{credentials}"\n'
    )
    return "--config", str(file), "--secret-file", str(secret)


async def pulled(node: Started, image: FakeImage) -> bool:
    """Whether all of the image comes from a node."""
    async with aiohttp.ClientSession(f"http://{node.address('facade')}") as session:
        for path, data in (
            (f"manifests/{image.manifest.digest}", image.manifest.data),
            *((f"blobs/{blob.digest}", blob.data) for blob in image.blobs),
        ):
            async with session.get(f"/v2/{NAME}/{path}") as answer:
                if await answer.read() != data:
                    return False
    return True


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    return first, second


async def test_what_one_node_fetched_another_one_serves_without_the_registry(folders: tuple[Path, Path]) -> None:
    first, second = folders
    async with FakeRegistry(auth=Basic({"node": "secret"})) as registry:
        image = registry.push("team/app", make_image("secret", (3_000_000,)), "v1")
        with ExitStack() as stack:

            async def start(folder: Path, *flags: str, login: bool) -> Started:
                more = await asyncio.to_thread(configured, folder, registry, login=login)
                opened = started(folder, folder / "data", *more, *flags)
                return await asyncio.to_thread(stack.enter_context, opened)

            a = await start(first, login=True)
            join = f"https://{a.address('mesh')}"
            assert f"--join {join} " in a.printed
            b = await start(second, "--join", join, login=False)
            assert await pulled(a, image)
            assert not await pulled(b, make_image("unknown", (1000,)))
            await registry.stop()
            async with asyncio.timeout(LIMIT_S):
                while not await pulled(b, image):
                    await asyncio.sleep(0.1)
            (peer,) = (await asyncio.to_thread(b.ask, "peers"))["peers"]
            assert (peer["member"], peer["url"]) == (True, join)
            where = await asyncio.to_thread(b.ask, "where", f"{NAME}@{image.manifest.digest}")
            assert {blob["visibility"] for blob in where["blobs"]} == {"shared"}
            assert all(blob["peers"] for blob in where["blobs"])
            (upstream,) = (
                each
                for each in (await asyncio.to_thread(b.ask, "status"))["upstreams"]
                if each["namespace"] == "corp.test"
            )
            assert upstream["share"] == "cluster"
            for node in (a, b):
                node.stop()
                status, logged = await asyncio.to_thread(node.ended)
                assert status == 0 and "Traceback" not in logged, logged
