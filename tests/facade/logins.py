"""Clients with logins of their own, for tests of access `passthrough`."""

import base64
import json

from facade.registry.client_logins import TOKEN_PATH
from tests.facade.machine import Machine, Pulled
from tests.fakes.images import FakeImage


def basic(user: str, password: str = "secret") -> str:
    """An `Authorization` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def get(node: Machine, path: str, login: str | None = None, method: str = "GET") -> Pulled:
    """Ask the facade with an `Authorization` header, or none."""
    return await node.get(path, method, **({"Authorization": login} if login else {}))


async def token(node: Machine, login: str | None = None) -> str:
    """The header that a token for this login makes."""
    answer = await get(node, f"{TOKEN_PATH}?service=layermesh&scope=repository:team/app:pull", login)
    assert answer.status == 200
    return f"Bearer {json.loads(answer.data)['token']}"


async def pull(node: Machine, name: str, image: FakeImage, login: str | None, tag: str = "v1") -> None:
    """Pull all of an image by its full name, and wait until it is here."""
    assert (await get(node, f"/v2/{name}/manifests/{tag}", login)).data == image.manifest.data
    for blob in image.blobs:
        assert (await get(node, f"/v2/{name}/blobs/{blob.digest}", login)).data == blob.data
        await node.landed(blob.digest)
