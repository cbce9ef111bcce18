"""An operator grants private content otherwise than before: what came by the grant that ended opens no longer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from facade.registry.client_logins import ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials, Login
from tests.facade.machine import Machine, machine
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

PATH = "/v2/team/secret/{}?ns=corp.test"
ALICE = {"Authorization": encode_basic_auth("alice", "secret")}
WHO = {Access.CREDENTIALS: {}, Access.PASSTHROUGH: ALICE, Access.REFUSE: {}}


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    """A registry that opens to a login only."""
    async with FakeRegistry(auth=Basic({"alice": "secret"})) as fake:
        yield fake


@asynccontextmanager
async def node(
    folder: Path, registry: FakeRegistry, corporate: FakeRegistry, access: Access, *, login: bool = True
) -> AsyncIterator[Machine]:
    """A node with this access to the registry, and a login of its own there where that is used."""
    own = Credentials({(corporate.address, ""): Login("alice", "secret")})
    gate = Gate(clients=ClientLogins()) if access is Access.PASSTHROUGH else None
    async with machine(
        folder,
        registry,
        upstreams=(UpstreamConfig.parse("corp.test", corporate.url, access=access),),
        credentials=own if login and access is Access.CREDENTIALS else NO_CREDENTIALS,
        gate=gate,
    ) as made:
        yield made


async def statuses(node: Machine, image: FakeImage, who: dict[str, str]) -> set[int]:
    """What is answered for the tag, the digest and every blob."""
    selectors = [
        "manifests/v1",
        f"manifests/{image.manifest.digest}",
        *(f"blobs/{each.digest}" for each in image.blobs),
    ]
    return {(await node.get(PATH.format(each), **who)).status for each in selectors}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Access.CREDENTIALS, Access.REFUSE),
        (Access.PASSTHROUGH, Access.REFUSE),
        (Access.PASSTHROUGH, Access.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("away", [False, True], ids=["upstream answers", "upstream is away"])
async def test_what_came_by_a_grant_that_ended_is_not_served(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, before: Access, after: Access, away: bool
) -> None:
    image = corporate.push("team/secret", make_image("secret", (2_000_000,)), "v1")
    async with node(tmp_path / "a", registry, corporate, before) as first:
        assert await statuses(first, image, WHO[before]) == {200}
        for blob in image.blobs:
            await first.landed(blob.digest)
    if away:
        await corporate.stop()
    async with node(tmp_path / "a", registry, corporate, after, login=False) as second:
        assert 200 not in await statuses(second, image, {})


@pytest.mark.parametrize(
    ("before", "after"), [(Access.CREDENTIALS, Access.CREDENTIALS), (Access.PASSTHROUGH, Access.PASSTHROUGH)]
)
async def test_what_came_by_the_grant_that_holds_is_not_asked_for_again(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, before: Access, after: Access
) -> None:
    image = corporate.push("team/secret", make_image("secret", (2_000_000,)), "v1")
    for access in (before, after):
        async with node(tmp_path / "a", registry, corporate, access) as made:
            assert await statuses(made, image, WHO[access]) == {200}
            for blob in image.blobs:
                await made.landed(blob.digest)
    assert corporate.sent[str(image.layers[0].digest)] == image.layers[0].size
