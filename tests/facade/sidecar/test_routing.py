"""The Delegated Routing V1 API as a client on the wire meets it."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from facade.settings import Address
from facade.sidecar.app import refusing
from facade.sidecar.provider import PeerId, Provider
from facade.sidecar.routing import Routing, parse_cid
from node.cid import Cid
from node.errors import InvalidError

HERE = Provider(PeerId.of_node("0" * 32), Address("127.0.0.1", 5054))
HELD = Cid.of(b"held")
ABSENT = Cid.of(b"absent")
RECORD = {"Schema": "peer", "ID": str(HERE.id), "Addrs": [HERE.multiaddr], "Protocols": ["transport-ipfs-gateway-http"]}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async def has(cid: Cid) -> bool:
        return cid == HELD

    app = web.Application(middlewares=[refusing])
    app.add_routes(Routing(HERE, has).routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()


async def test_a_kubo_is_told_that_this_node_has_it(client: aiohttp.ClientSession) -> None:
    query = "filter-protocols=transport-bitswap,transport-ipfs-gateway-http,unknown"
    headers = {"Accept": "application/x-ndjson,application/json"}
    async with client.get(f"/routing/v1/providers/{HELD}?{query}", headers=headers) as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        assert answer.headers["Vary"] == "Accept" and "Last-Modified" in answer.headers
        assert "max-age=300" in answer.headers["Cache-Control"]
    assert text.endswith("\n") and [json.loads(line) for line in text.splitlines()] == [RECORD]


@pytest.mark.parametrize("accept", [None, "application/json", "*/*", "text/html;q=0.9, application/json;q=0.1"])
async def test_who_asks_for_no_stream_gets_plain_json(client: aiohttp.ClientSession, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with client.get(
        f"/routing/v1/providers/{HELD}", headers=headers, skip_auto_headers=[] if accept else ["Accept"]
    ) as answer:
        assert answer.content_type == "application/json"
        assert await answer.json() == {"Providers": [RECORD]}


async def test_who_wants_something_else_is_told_what_there_is(client: aiohttp.ClientSession) -> None:
    async with client.get(f"/routing/v1/providers/{HELD}", headers={"Accept": "text/html"}) as answer:
        assert answer.status == 406 and "application/x-ndjson" in await answer.text()


@pytest.mark.parametrize(
    "cid",
    [
        ABSENT,
        "bafyreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",  # dag-cbor
        "bafkr4icj4qxbbglkb5j7fwhhhfi4gnpxoezk5hxe6zcjrkvkjcvtifrj7e",  # blake3
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPRoe",
        "bafkqaaa",
    ],
)
async def test_what_nobody_has_is_an_empty_answer_that_is_soon_forgotten(
    client: aiohttp.ClientSession, cid: object
) -> None:
    async with client.get(f"/routing/v1/providers/{cid}", headers=NDJSON) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert "max-age=5," in answer.headers["Cache-Control"]
    async with client.get(f"/routing/v1/providers/{cid}") as answer:
        assert await answer.json() == {"Providers": []}


async def test_a_client_that_cannot_read_over_http_is_told_of_nobody(client: aiohttp.ClientSession) -> None:
    for query in ("filter-protocols=transport-bitswap", "filter-addrs=quic-v1", "filter-addrs=!http"):
        async with client.get(f"/routing/v1/providers/{HELD}?{query}", headers=NDJSON) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize("text", ["nonsense", "b", "%00", "Qm" + "1" * 44, "bafy" * 1000, "x" * 300, "%F0%9F%8D%95"])
async def test_what_is_no_cid_is_422(client: aiohttp.ClientSession, text: str) -> None:
    async with client.get(f"/routing/v1/providers/{text}", headers=NDJSON) as answer:
        assert answer.status == 422 and "CID" in await answer.text()


async def test_a_huge_query_is_refused(client: aiohttp.ClientSession) -> None:
    async with client.get(f"/routing/v1/providers/{HELD}?filter-addrs={'http,' * 5000}") as answer:
        assert answer.status == 400


async def test_this_node_is_the_one_peer_that_it_knows(client: aiohttp.ClientSession) -> None:
    async with client.get(f"/routing/v1/peers/{HERE.id}", headers=NDJSON) as answer:
        assert json.loads(await answer.text()) == RECORD
    async with client.get("/routing/v1/peers/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA") as answer:
        assert await answer.json() == {"Peers": []}
    async with client.get("/routing/v1/peers/nobody") as answer:
        assert answer.status == 422


async def test_there_are_no_names(client: aiohttp.ClientSession) -> None:
    name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
    async with client.get(f"/routing/v1/ipns/{name}", headers={"Accept": "application/vnd.ipfs.ipns-record"}) as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", f"/routing/v1/providers/{HELD}", 501),
        ("PUT", "/routing/v1/providers/", 501),
        ("POST", f"/routing/v1/providers/{HELD}", 501),
        ("OPTIONS", f"/routing/v1/providers/{HELD}", 501),
        ("PUT", "/routing/v1/ipns/k51", 501),
        ("GET", f"/routing/v1/dht/closest/peers/{HELD}", 501),
        ("GET", "/routing/v1/providers", 501),
        ("GET", "/routing/v1/encryption", 400),
        ("GET", "/routing/v2/providers/x", 404),
    ],
)
async def test_the_rest_of_the_api_is_said_to_be_not_supported(
    client: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with client.request(method, path, data=b"x" if method == "PUT" else None) as answer:
        assert answer.status == status


@given(st.text(min_size=1, max_size=200))
def test_whatever_is_asked_is_a_cid_or_refused(text: str) -> None:
    for parse in (parse_cid, PeerId.parse):
        with suppress(InvalidError):
            parse(text)
