"""A real Kubo and this node's gateway read each other: its files here, and our archives there."""

import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from node.cid import Cid
from node.digest import Digest
from node.errors import NotFoundError
from node.ipfs.gateway import GatewayClient
from node.ipfs.reading import GatewayReading
from node.serve import gateway_routes
from node.store import Store
from tests.kubo.daemon import Kubo
from tests.node.contents import MIB, PUBLIC, content
from tests.node.dags import directory, file, keep, leaf, v0
from tests.node.gateways import serving

DATA = content(3 * MIB + 77)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def sent(
    session: aiohttp.ClientSession, kubo: Kubo, command: str, data: bytes, **options: str
) -> dict[str, object]:
    """What a command answers that takes a file."""
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(data), filename="file", content_type="application/octet-stream")
    url = (kubo.rpc / "api/v0" / command).with_query({name.replace("_", "-"): each for name, each in options.items()})
    async with session.post(url, data=form) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, object] = json.loads((await answer.text()).splitlines()[0])
        return found


@pytest.mark.parametrize(
    "options",
    [
        {"cid_version": "0", "chunker": "size-262144", "raw_leaves": "false", "max_file_links": "4"},
        {"cid_version": "1", "chunker": "size-1048576", "raw_leaves": "true", "trickle": "true"},
    ],
)
async def test_a_file_of_any_profile_is_read_from_kubos_gateway_and_verified(
    session: aiohttp.ClientSession, kubo: Kubo, options: dict[str, str]
) -> None:
    added = await sent(session, kubo, "add", DATA, **options)
    cid, client = Cid.parse(str(added["Hash"])), GatewayClient(session)

    async def having(wanted: Cid) -> list[URL]:
        return [kubo.gateway] if await client.has(kubo.gateway, wanted) else []

    reading = GatewayReading(client, having)
    assert await reading.has(cid)
    assert not await reading.has(Cid.of(b"absent"))
    for start, stop in ((0, None), (5, 6), (MIB - 3, 2 * MIB + 9)):
        async with reading.open(cid, start, stop) as pieces:
            assert b"".join([piece async for piece in pieces]) == DATA[start:stop]
    with pytest.raises(NotFoundError):
        async with reading.open(Cid.of(b"absent")):
            pass


async def test_kubo_imports_the_archives_of_this_node_and_pins_them(
    session: aiohttp.ClientSession, kubo: Kubo, store: Store
) -> None:
    holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
    old = file([(leaf(b"aaaa").cid.raw, 4)] * 2)
    root = directory({"blob": holding.cid.raw, "old": v0(old)})
    await keep(store, root, old, leaf(b"aaaa"))
    async with (
        serving(gateway_routes(store, lambda _request, _visibility: True)) as base,
        session.get(base / "ipfs" / str(root.cid), params={"format": "car"}) as answer,
    ):
        archive = await answer.read()
    imported = await sent(session, kubo, "dag/import", archive, pin_roots="true")
    assert imported == {"Root": {"Cid": {"/": str(root.cid)}, "PinErrorMsg": ""}}
    for name, expected in (("blob", DATA), ("old", b"aaaaaaaa")):
        async with session.get(kubo.gateway / "ipfs" / str(root.cid) / name) as answer:
            assert await answer.read() == expected
