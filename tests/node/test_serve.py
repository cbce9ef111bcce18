"""The node's own IPFS gateway."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from node.car import Inline
from node.catalog import Visibility
from node.cid import Cid, Codec
from node.digest import Digest
from node.naming import Name
from node.serve import gateway_routes
from node.store import Store
from node.unixfs import Dag
from tests.node.contents import MIB, PRIVATE, PUBLIC, content
from tests.node.gateways import serving

DATA = content(3 * MIB + 5)
INLINE = Name(Inline(Codec.RAW, b"hello"))
RAW = {"Accept": "application/vnd.ipld.raw"}
ABSENT = "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"


def everyone(_request: web.Request, visibility: Visibility) -> bool:
    return visibility is Visibility.PUBLIC


@pytest.fixture
def sent() -> list[int]:
    return []


@pytest.fixture
async def client(store: Store, sent: list[int]) -> AsyncIterator[aiohttp.ClientSession]:
    routes = gateway_routes(store, everyone, lambda count, _request: sent.append(count))
    async with serving(routes) as base, aiohttp.ClientSession(base) as session:
        yield session


@pytest.fixture
async def dag(store: Store) -> Dag:
    await store.put(Digest.of(DATA), DATA, PUBLIC)
    found = await store.dag(Digest.of(DATA))
    assert found is not None
    return found


async def test_the_probe_is_answered_with_nothing(client: aiohttp.ClientSession) -> None:
    async with client.get("/ipfs/bafkqaaa?format=raw") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with client.head("/ipfs/bafkqaaa") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("how", ["query", "accept"])
async def test_every_block_is_served_raw(client: aiohttp.ClientSession, dag: Dag, how: str) -> None:
    query, headers = ("?format=raw", {}) if how == "query" else ("", RAW)
    blocks = [cid for cid, _ in dag.interior] + [dag.leaf(at).cid for at in range(dag.leaf_count)]
    for cid in blocks:
        async with client.get(f"/ipfs/{cid}{query}", headers=headers) as answer:
            block = await answer.read()
            assert answer.content_type == "application/vnd.ipld.raw"
            assert answer.headers["Etag"] == f'"{cid}.raw"'
        assert Cid.of(block, cid.codec) == cid


async def test_a_file_is_served_whole_and_in_part(client: aiohttp.ClientSession, dag: Dag, sent: list[int]) -> None:
    async with client.get(f"/ipfs/{dag.root}") as answer:
        assert (answer.status, await answer.read()) == (200, DATA)
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Ipfs-Path"] == f"/ipfs/{dag.root}"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with client.get(f"/ipfs/{dag.root}", headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, await answer.read()) == (206, DATA[10:20])
    async with client.get(f"/ipfs/{dag.leaf(3).cid}", headers={"Range": "bytes=1-2"}) as answer:
        assert (answer.status, await answer.read()) == (206, DATA[3 * MIB + 1 : 3 * MIB + 3])
    async with client.head(f"/ipfs/{dag.root}"):  # over the same connection: what was before is done
        assert sent == [len(DATA), 10, 2]


async def test_a_head_says_how_long_it_is(client: aiohttp.ClientSession, dag: Dag) -> None:
    async with client.head(f"/ipfs/{dag.root}", headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(DATA)))


@pytest.mark.parametrize("of", ["leaf", "root", "inline"])
async def test_a_head_of_a_block_is_its_get_without_the_body(
    client: aiohttp.ClientSession, dag: Dag, sent: list[int], of: str
) -> None:
    cid = {"leaf": dag.leaf(3).cid, "root": dag.root, "inline": INLINE}[of]
    async with client.head(f"/ipfs/{cid}?format=raw") as head:
        assert (head.status, await head.read(), sent) == (200, b"", [])
    async with client.get(f"/ipfs/{cid}?format=raw") as answer:
        assert head.headers["Content-Length"] == str(len(await answer.read()))
    said = [{name: text for name, text in each.headers.items() if name != "Date"} for each in (head, answer)]
    assert said[0] == said[1]


@pytest.mark.parametrize("of", ["leaf", "root", "inline"])
async def test_a_block_that_the_client_has_is_not_sent_again(
    client: aiohttp.ClientSession, dag: Dag, sent: list[int], of: str
) -> None:
    cid = {"leaf": dag.leaf(3).cid, "root": dag.root, "inline": INLINE}[of]
    for known in (f'"{cid}.raw"', f'W/"{cid}.raw"', f'"x", "{cid}.raw"', "*"):
        for method in ("GET", "HEAD"):
            headers = {"If-None-Match": known}
            async with client.request(method, f"/ipfs/{cid}?format=raw", headers=headers) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["Etag"] == f'"{cid}.raw"'
    assert not sent
    async with client.get(f"/ipfs/{cid}?format=raw", headers={"If-None-Match": f'"{cid}"'}) as answer:
        assert answer.status == 200  # that is the file's, not the block's


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "DELETE", "PATCH"])
async def test_only_get_and_head_are_answered(client: aiohttp.ClientSession, dag: Dag, method: str) -> None:
    async with client.request(method, f"/ipfs/{dag.root}?format=raw") as answer:
        assert (answer.status, set(answer.headers["Allow"].split(","))) == (405, {"GET", "HEAD"})


async def test_a_range_outside_is_416(client: aiohttp.ClientSession, dag: Dag) -> None:
    async with client.get(f"/ipfs/{dag.root}", headers={"Range": f"bytes={len(DATA)}-"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


async def test_what_the_client_has_is_not_sent_again(client: aiohttp.ClientSession, dag: Dag) -> None:
    async with client.get(f"/ipfs/{dag.root}", headers={"If-None-Match": f'"{dag.root}"'}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")


async def test_private_and_absent_are_answered_the_same(client: aiohttp.ClientSession, store: Store) -> None:
    private = await store.put(Digest.of(DATA), DATA, PRIVATE)
    dag = await store.dag(private.digest)
    assert dag is not None
    answers = set()
    for path in (private.cid, dag.leaf(0).cid, f"{private.cid}?format=raw", f"{dag.leaf(0).cid}?format=raw", ABSENT):
        async with client.get(f"/ipfs/{path}") as answer:
            headers = {name: text for name, text in answer.headers.items() if name != "Date"}
            answers.add((answer.status, await answer.text(), str(headers)))
    assert len(answers) == 1
    assert answers.pop()[:2] == (404, "not here\n")


@pytest.mark.parametrize("text", ["nonsense", "b", "bafy", "%00", "Qm" + "1" * 44, "x" * 300, "bafkqaaaa"])
async def test_what_is_no_cid_is_400(client: aiohttp.ClientSession, text: str) -> None:
    async with client.get(f"/ipfs/{text}") as answer:
        assert answer.status == 400
        assert "CID" in await answer.text()


async def test_other_formats_are_refused(client: aiohttp.ClientSession, dag: Dag) -> None:
    async with client.get(f"/ipfs/{dag.root}?format=html") as answer:
        assert answer.status == 400


async def test_a_damaged_blob_is_not_served(client: aiohttp.ClientSession, dag: Dag, store: Store) -> None:
    digest = Digest.of(DATA)
    (store.folder / "blobs/sha256" / digest.hex[:2] / digest.hex).unlink()
    async with client.get(f"/ipfs/{dag.root}") as answer:
        assert answer.status == 404
    assert await store.find(digest) is None
