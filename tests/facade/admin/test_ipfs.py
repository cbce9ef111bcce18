"""What `layermesh ipfs` asks the admin listener for, on the wire."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from facade.admin.app import _refusing
from facade.admin.ipfs import IpfsByHand
from facade.gateways import Gateways, open_gateways
from node.cid import Cid, Codec
from node.dagpb import DirEntry, directory_block
from node.digest import Digest
from node.foreign import Whole
from node.store import Store, open_store
from node.unixfs import LEAF_BYTES, Link, encode_node
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.peer import dag_of
from tests.node.contents import MIB, PRIVATE, content

DATA = content(2 * MIB + 5, "asked")
DIGEST = Digest.of(DATA)
ROOT = dag_of(DATA).root


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "data") as one:
        yield one


@pytest.fixture
async def elsewhere() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


@pytest.fixture
async def gateways(elsewhere: FakeKubo) -> AsyncIterator[Gateways]:
    async with open_gateways((elsewhere.gateway,)) as found:
        yield found


@pytest.fixture
async def client(store: Store, gateways: Gateways) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(middlewares=[_refusing])
    app.add_routes(IpfsByHand(store, None, gateways, "http://127.0.0.1:5051/ipfs/").routes())
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        yield session


async def got(client: aiohttp.ClientSession, cid: object, **query: str) -> tuple[int, bytes]:
    """A file by its CID."""
    async with client.get("/api/ipfs/file", params={"cid": str(cid), **query}) as answer:
        return answer.status, await answer.read()


async def added(client: aiohttp.ClientSession, data: bytes, digest: Digest, **query: str) -> tuple[int, Any]:
    """What adding a file is answered."""
    async with client.put("/api/ipfs/file", params={"digest": str(digest), **query}, data=data) as answer:
        return answer.status, await answer.json()


async def test_what_is_private_here_is_printed_and_listed_for_whoever_reaches_the_listener(
    client: aiohttp.ClientSession, store: Store
) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    assert await got(client, ROOT) == (200, DATA)
    async with client.get("/api/ipfs/files") as answer:
        lines = [line async for line in answer.content]
    assert b'"visibility":"private"' in lines[0] and lines[-1] == b'{"done":true}\n'


async def test_files_come_from_gateways_where_they_are_not_here(
    client: aiohttp.ClientSession, elsewhere: FakeKubo
) -> None:
    elsewhere.keep(DATA)
    assert await got(client, ROOT, offset=str(MIB - 2), length="4") == (200, DATA[MIB - 2 : MIB + 2])
    assert (await got(client, Cid.of(b"nowhere")))[0] == 404


async def test_wrong_bytes_of_a_gateway_are_never_printed(client: aiohttp.ClientSession, elsewhere: FakeKubo) -> None:
    elsewhere.keep(DATA)
    elsewhere.faults.wrong_leaf = elsewhere.leaves(ROOT)[0]
    assert (await got(client, ROOT))[0] == 404


async def test_a_file_that_is_not_what_its_digest_says_is_not_kept(client: aiohttp.ClientSession, store: Store) -> None:
    digest = Digest.of(b"a file that changed")
    status, said = await added(client, b"a file that changes", digest, public="true")
    assert status == 503 and "error" in said
    assert await store.find(digest) is None
    assert (await added(client, b"a file that changed", digest, public="true"))[1]["visibility"] == "public"


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("PUT", "/api/ipfs/file?digest=sha256:12", "digest"),
        ("GET", f"/api/ipfs/file?cid={ROOT}&offset=-1", "offset: a number is expected"),
        ("GET", f"/api/ipfs/file?cid={ROOT}&length={'9' * 20}", "length: a number is expected"),
        ("GET", "/api/ipfs/file", "CID ''"),
        ("GET", "/api/ipfs/directory?cid=/ipfs/", "CID ''"),
        ("POST", "/api/ipfs/pin?cid=nothing", "CID 'nothing'"),
        ("DELETE", "/api/ipfs/pin", "CID ''"),
    ],
)
async def test_what_is_malformed_is_refused_with_a_reason(
    client: aiohttp.ClientSession, method: str, path: str, words: str
) -> None:
    async with client.request(method, path, data=b"" if method == "PUT" else None) as answer:
        assert answer.status == 400
        assert words in (await answer.json())["error"]


async def test_an_upload_without_a_length_is_refused(client: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield DATA

    async with client.put("/api/ipfs/file", params={"digest": str(DIGEST)}, data=pieces()) as answer:
        assert (answer.status, "Content-Length" in (await answer.json())["error"]) == (400, True)


async def test_a_directory_that_was_imported_is_listed_and_read_by_path(
    client: aiohttp.ClientSession, store: Store
) -> None:
    holding = await store.put(DIGEST, DATA, PRIVATE)
    block = directory_block([DirEntry("layer", holding.cid, len(DATA))])
    folder = Cid.of(block, Codec.DAG_PB)
    await store.foreign.keep(folder, [Whole(folder, block)])
    await store.foreign.finish(folder, PRIVATE)
    async with client.get("/api/ipfs/directory", params={"cid": str(folder)}) as answer:
        entries = (await answer.json())["entries"]
    assert entries == [{"name": "layer", "cid": str(holding.cid), "size": len(DATA)}]
    assert await got(client, f"{folder}/layer", offset=str(MIB)) == (200, DATA[MIB:])
    async with client.get("/api/ipfs/files") as answer:
        assert str(folder) in await answer.text()


async def test_a_directory_that_has_itself_many_times_over_is_listed_and_not_followed(
    client: aiohttp.ClientSession, elsewhere: FakeKubo
) -> None:
    entries = [DirEntry(f"{number:04}", ROOT, 1 << 62) for number in range(5000)]
    block = directory_block(entries)
    folder = Cid.of(block, Codec.DAG_PB)
    elsewhere.blocks[folder] = block
    async with client.get("/api/ipfs/directory", params={"cid": str(folder)}) as answer:
        assert (answer.status, len((await answer.json())["entries"])) == (200, 5000)


async def test_a_file_whose_blocks_contradict_each_other_is_cut_where_they_do(
    client: aiohttp.ClientSession, elsewhere: FakeKubo
) -> None:
    leaves = [elsewhere.keep(content(size, "leaf")) for size in (LEAF_BYTES, 10)]
    lying = encode_node([Link(leaves[0], LEAF_BYTES, LEAF_BYTES), Link(leaves[1], 10, 11)])
    root = Cid.of(lying, Codec.DAG_PB)
    elsewhere.blocks[root] = lying
    async with client.get("/api/ipfs/file", params={"cid": str(root)}) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert (await got(client, root, offset=str(LEAF_BYTES)))[0] == 503


async def test_who_goes_away_in_the_middle_leaves_nothing_running(client: aiohttp.ClientSession, store: Store) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    async with client.get("/api/ipfs/file", params={"cid": str(ROOT)}) as answer:
        await answer.content.read(10)
        answer.close()
    await asyncio.sleep(0)
    assert (await got(client, ROOT))[0] == 200


@pytest.mark.parametrize("noticed", [True, False])
async def test_for_what_is_private_nobody_else_is_asked_where_it_is_damaged(
    tmp_path: Path, store: Store, client: aiohttp.ClientSession, elsewhere: FakeKubo, noticed: bool
) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    elsewhere.keep(DATA)
    (path,) = [each for each in (tmp_path / "data").rglob("*") if each.is_file() and each.stat().st_size == len(DATA)]
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"damaged")
    if not noticed:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    status, body = await got(client, dag_of(DATA).leaf(0).cid)
    assert status == (404 if noticed else 503) and b"damaged" not in body
    assert not [each for each in elsewhere.asked if each.startswith("/ipfs/baf")]
