"""Archives and paths over the wire (Trustless Gateway specification)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from node import serve, traversal
from node.car import header_naming
from node.catalog import Visibility
from node.cid import Cid, Codec
from node.dagpb import Kind, PbNode, parse_pb
from node.digest import Digest
from node.serve import gateway_routes
from node.store import Store
from node.unixfs import Dag
from tests.node.archives import read_archive
from tests.node.contents import MIB, PRIVATE, PUBLIC, content
from tests.node.dags import bomb, directory, field, file, identity, keep, leaf, pb_node, shard
from tests.node.gateways import serving

DATA = content(3 * MIB + 5)
CAR = {"Accept": "application/vnd.ipld.car"}
A, B = leaf(b"aaaa"), leaf(b"bb")
FILE = file([(A.cid.raw, 4), (B.cid.raw, 2), (A.cid.raw, 4)])
BELOW = directory({"file": FILE.cid.raw, "leaf": A.cid.raw})
ROOT = directory({"below": BELOW.cid.raw, "a b%c": B.cid.raw})
ABSENT = Cid.of(b"absent")


@pytest.fixture
def sent() -> list[int]:
    return []


@pytest.fixture
async def client(store: Store, sent: list[int]) -> AsyncIterator[aiohttp.ClientSession]:
    def public(_request: web.Request, visibility: Visibility) -> bool:
        return visibility is Visibility.PUBLIC

    routes = gateway_routes(store, public, lambda count, _request: sent.append(count))
    async with serving(routes) as base, aiohttp.ClientSession(base) as session:
        yield session


@pytest.fixture
async def dag(store: Store) -> Dag:
    await store.put(Digest.of(DATA), DATA, PUBLIC)
    found = await store.dag(Digest.of(DATA))
    assert found is not None
    return found


@pytest.fixture
async def tree(store: Store) -> None:
    await keep(store, ROOT, BELOW, FILE, A, B)


async def read(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    async with client.get(path, headers={name.replace("_", "-"): text for name, text in headers.items()}) as answer:
        return answer.status, await answer.read(), dict(answer.headers)


async def archive(client: aiohttp.ClientSession, path: str) -> list[Cid]:
    status, body, _ = await read(client, path)
    assert status == 200, body
    return read_archive(body).cids


async def test_the_archive_of_a_blob_has_its_blocks_in_order(
    client: aiohttp.ClientSession, dag: Dag, sent: list[int]
) -> None:
    expected = [dag.root, *(dag.leaf(at).cid for at in range(4))]
    async with client.get(f"/ipfs/{dag.root}", headers=CAR) as answer:
        body = await answer.read()
    found = read_archive(body)
    assert (found.roots, found.cids) == ((dag.root,), expected)
    assert b"".join(data for _, data in found.blocks[1:]) == DATA
    await read(client, f"/ipfs/{ABSENT}")
    assert sent == [len(body)]


async def test_an_answer_says_all_that_the_specification_wants(client: aiohttp.ClientSession, dag: Dag) -> None:
    for method in ("GET", "HEAD"):
        async with client.request(method, f"/ipfs/{dag.root}", headers=CAR) as answer:
            headers = answer.headers
            assert (answer.status, bool(await answer.read())) == (200, method == "GET")
        assert headers["Content-Type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=n"
        assert headers["Content-Disposition"] == f'attachment; filename="{dag.root}.car"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "public, max-age=29030400, immutable"
        assert headers["Accept-Ranges"] == "none"
        assert headers["Etag"].startswith(f'"all.{dag.root}.car.')
        assert headers["X-Ipfs-Path"] == f"/ipfs/{dag.root}"
        assert headers["X-Ipfs-Roots"] == str(dag.root)
        assert headers["Content-Location"] == f"/ipfs/{dag.root}?format=car&car-version=1&car-order=dfs&car-dups=n"
        assert "Content-Length" not in headers


@pytest.mark.parametrize(
    ("query", "leaves"),
    [
        ("dag-scope=block", []),
        ("dag-scope=entity", [0, 1, 2, 3]),
        (f"entity-bytes={MIB}:{MIB}", [1]),
        (f"dag-scope=entity&entity-bytes={MIB - 1}:{MIB}", [0, 1]),
        ("entity-bytes=-1:*", [3]),
        (f"entity-bytes={MIB}:-{3 * MIB}", []),
        (f"entity-bytes={2 * MIB}:-6", [2]),
    ],
)
async def test_a_part_of_a_blob_is_the_blocks_that_it_needs(
    client: aiohttp.ClientSession, dag: Dag, query: str, leaves: list[int]
) -> None:
    expected = [dag.root, *(dag.leaf(at).cid for at in leaves)]
    assert await archive(client, f"/ipfs/{dag.root}?format=car&{query}") == expected


async def test_entity_bytes_behind_the_end_are_400(client: aiohttp.ClientSession, dag: Dag) -> None:
    status, body, _ = await read(client, f"/ipfs/{dag.root}?format=car&entity-bytes={len(DATA)}:*")
    assert (status, b"there are" in body) == (400, True)


@pytest.mark.usefixtures("tree")
async def test_an_archive_by_path_begins_with_the_blocks_of_the_path(client: aiohttp.ClientSession) -> None:
    path = f"/ipfs/{ROOT.cid}/below"
    assert await archive(client, f"{path}/leaf?format=car") == [ROOT.cid, BELOW.cid, A.cid]
    assert await archive(client, f"{path}?format=car&dag-scope=entity") == [ROOT.cid, BELOW.cid]
    assert await archive(client, f"{path}/?format=car") == [ROOT.cid, BELOW.cid, FILE.cid, A.cid, B.cid]
    twice = [ROOT.cid, BELOW.cid, FILE.cid, A.cid, B.cid, A.cid, A.cid]
    assert await archive(client, f"{path}?format=car&car-dups=y") == twice
    _, _, headers = await read(client, f"{path}/leaf?format=car")
    assert headers["X-Ipfs-Roots"] == f"{ROOT.cid},{BELOW.cid},{A.cid}"
    assert headers["X-Ipfs-Path"] == f"{path}/leaf"


@pytest.mark.usefixtures("tree")
async def test_files_are_read_by_path_whole_and_in_part(client: aiohttp.ClientSession, sent: list[int]) -> None:
    path = f"/ipfs/{ROOT.cid}/below/file"
    status, body, headers = await read(client, path)
    assert (status, body, headers["Content-Length"], headers["Etag"]) == (200, b"aaaabbaaaa", "10", f'"{FILE.cid}"')
    assert headers["Content-Type"] == "application/octet-stream"
    status, body, headers = await read(client, path, Range="bytes=3-6")
    assert (status, body, headers["Content-Range"]) == (206, b"abba", "bytes 3-6/10")
    assert (await read(client, path, Range="bytes=10-"))[0] == 416
    assert (await read(client, path, If_None_Match=f'W/"{FILE.cid}"'))[:2] == (304, b"")
    assert (await read(client, f"/ipfs/{ROOT.cid}/a%20b%25c?format=raw"))[1] == b"bb"
    assert (await read(client, f"/ipfs/{ROOT.cid}/below/leaf", Range="bytes=-1"))[1] == b"a"
    async with client.head(path) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "10")
    assert sent == [10, 4, 2, 1]


@pytest.mark.usefixtures("tree")
async def test_what_a_path_does_not_lead_to_is_404_with_the_reason(client: aiohttp.ClientSession) -> None:
    for path in ("nothing", "below/nothing", "below/leaf/deeper", "below/file/deeper", "%ff"):
        status, body, _ = await read(client, f"/ipfs/{ROOT.cid}/{path}?format=car")
        assert (status, b"it has no" in body) == (404, True), path
    assert (await read(client, f"/ipfs/{ROOT.cid}/{'a/' * 65}"))[0] == 400
    status, body, _ = await read(client, f"/ipfs/{ROOT.cid}/below")
    assert (status, b"is a directory" in body) == (406, True)


async def test_sharded_directories_and_other_codecs_are_501(client: aiohttp.ClientSession, store: Store) -> None:
    await keep(store, shard({"0Aa": A.cid.raw}), A)
    cbor = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    for path in (f"{shard({'0Aa': A.cid.raw}).cid}/a", f"{shard({'0Aa': A.cid.raw}).cid}/a?format=car", cbor):
        status, body, _ = await read(client, f"/ipfs/{path}")
        assert (status, body.count(b"\n")) == (501, 1), path
    assert (await read(client, f"/ipfs/{A.cid}?format=dag-json"))[0] == 501


async def test_only_if_cached_tells_what_is_here(client: aiohttp.ClientSession, dag: Dag) -> None:
    for query in ("", "?format=raw", "?format=car"):
        for method, status in (("GET", 412), ("HEAD", 412)):
            headers = {"Cache-Control": "max-age=0, only-if-cached"}
            async with client.request(method, f"/ipfs/{ABSENT}{query}", headers=headers) as answer:
                assert answer.status == status
            async with client.request(method, f"/ipfs/{dag.root}{query}", headers=headers) as answer:
                assert answer.status == 200


async def test_what_the_client_has_of_an_archive_is_not_sent_again(
    client: aiohttp.ClientSession, dag: Dag, sent: list[int]
) -> None:
    async with client.head(f"/ipfs/{dag.root}?format=car") as answer:
        tag = answer.headers["Etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        status, body, headers = await read(client, f"/ipfs/{dag.root}?format=car", If_None_Match=known)
        assert (status, body, headers["Etag"]) == (304, b"", tag)
    assert (await read(client, f"/ipfs/{dag.root}?format=car&car-dups=y", If_None_Match=tag))[0] == 200
    assert sent == [sent[0]]


async def test_the_probe_and_identity_cids_are_archives_without_blocks(client: aiohttp.ClientSession) -> None:
    assert (await read(client, "/ipfs/bafkqaaa?format=car"))[1] == header_naming([identity(b"")])
    hello = "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa"
    assert (await read(client, f"/ipfs/{hello}?format=car&car-dups=y"))[:2][0] == 200
    assert (await read(client, f"/ipfs/{hello}?format=raw"))[1] == b"hello i am inlined cid\n"
    assert (await read(client, f"/ipfs/{hello}", Range="bytes=0-4"))[1] == b"hello"


async def test_private_and_absent_archives_are_answered_the_same(client: aiohttp.ClientSession, store: Store) -> None:
    private = await store.put(Digest.of(DATA), DATA, PRIVATE)
    hidden = await keep(store, directory({"x": A.cid.raw}), A, proof=PRIVATE)
    answers = set()
    for path in (private.cid, f"{hidden}", f"{hidden}/x", f"{hidden}/nothing", ABSENT):
        status, body, headers = await read(client, f"/ipfs/{path}?format=car")
        answers.add((status, body, headers["Content-Type"]))
    assert answers == {(404, b"not here\n", "text/plain; charset=utf-8")}


async def test_an_archive_that_cannot_go_on_is_cut(client: aiohttp.ClientSession, store: Store) -> None:
    leaves = [leaf(content(MIB, str(at))) for at in range(4)]
    root = await keep(store, file([(each.cid.raw, MIB) for each in leaves]), *leaves[:3])
    async with client.get(f"/ipfs/{root}?format=car") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    assert (await archive(client, f"/ipfs/{root}?format=car&entity-bytes=0:1"))[1:] == [leaves[0].cid]
    async with client.get(f"/ipfs/{root}", headers={"Range": f"bytes={2 * MIB}-"}) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_bomb_of_duplicates_is_cut_soon(client: aiohttp.ClientSession, store: Store, sent: list[int]) -> None:
    name = await keep(store, *bomb())
    async with asyncio.timeout(60), client.get(f"/ipfs/{name}?format=car&car-dups=y") as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    assert len(await archive(client, f"/ipfs/{name}?format=car")) == len(bomb())
    assert sent[0] < 16 * MIB


async def test_long_nodes_are_read_one_after_another(
    client: aiohttp.ClientSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[int] = []
    most = [0]

    def counted(block: bytes) -> PbNode:
        reading.append(1)
        most[0] = max(most[0], len(reading))
        try:
            return parse_pb(block)
        finally:
            reading.pop()

    monkeypatch.setattr(traversal, "parse_pb", counted)
    name = await keep(store, directory({f"{at:05}": A.cid.raw for at in range(5000)}), A)
    answers = await asyncio.gather(*(archive(client, f"/ipfs/{name}?format=car") for _ in range(6)))
    assert (most, [len(answer) for answer in answers]) == ([1], [2] * 6)


async def test_sizes_that_lie_end_an_answer_with_a_reason(client: aiohttp.ClientSession, store: Store) -> None:
    name = await keep(store, file([(A.cid.raw, 4)], size=4), A)
    assert (await read(client, f"/ipfs/{name}"))[1] == b"aaaa"
    lying = await keep(store, file([(A.cid.raw, 1 << 60)]), A)
    for query in ("", "?format=car&entity-bytes=0:*"):
        status, body, _ = await read(client, f"/ipfs/{lying}{query}")
        assert (status, b"says that it has" in body) == (500, True)


_EMPTY = directory({})
_SHORT = {
    "a directory as a part of a file": (file([(A.cid.raw, 4), (_EMPTY.cid.raw, 3)]), A, _EMPTY),
    "one within a CID": (file([(A.cid.raw, 4), (identity(_EMPTY.data, Codec.DAG_PB), 3)]), A),
    "only that": (file([(_EMPTY.cid.raw, 3)]), _EMPTY),
    "a part without bytes": (file([(A.cid.raw, 4), (leaf(b"").cid.raw, 3)]), A, leaf(b"")),
}


@pytest.mark.parametrize("what", _SHORT)
async def test_a_file_with_fewer_bytes_than_it_says_is_never_taken_for_whole(
    client: aiohttp.ClientSession, store: Store, what: str
) -> None:
    """Else a client waits for the rest, or takes the next answer for it."""
    name = await keep(store, *_SHORT[what])
    for query in ("", "?format=car&dag-scope=entity"):
        async with asyncio.timeout(5):
            with suppress(aiohttp.ClientError):  # behind the first bytes it is cut
                assert (await read(client, f"/ipfs/{name}{query}"))[0] == 500


async def test_a_symlink_is_as_long_as_where_it_points_to(client: aiohttp.ClientSession, store: Store) -> None:
    name = await keep(store, pb_node(Kind.SYMLINK, [], field(2, b"there"), field(4, 1 << 20)))
    async with asyncio.timeout(5):
        assert (await read(client, f"/ipfs/{name}"))[:2] == (200, b"there")


async def test_a_client_that_goes_leaves_nothing_open(store: Store, sent: list[int], dag: Dag) -> None:
    gone = asyncio.Event()

    def count(size: int, _request: web.Request) -> None:
        sent.append(size)
        gone.set()

    async with serving(gateway_routes(store, lambda _request, _visibility: True, count)) as base:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(base.host, base.port)
            writer.write(f"GET /ipfs/{dag.root}?format=car HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        async with asyncio.timeout(10):
            await gone.wait()
        async with aiohttp.ClientSession(base) as session:
            assert len(await archive(session, f"/ipfs/{dag.root}?format=car")) == 5


async def test_clients_that_read_nothing_are_few_and_are_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_WALKS", 1)
    data = content(16 * MIB)
    path = f"/ipfs/{(await store.put(Digest.of(data), data, PUBLIC)).cid}"
    async with (
        serving(gateway_routes(store, lambda _request, _visibility: True)) as base,
        aiohttp.ClientSession(base) as session,
    ):
        reader, writer = await asyncio.open_connection(base.host, base.port, limit=1024)
        writer.write(f"GET {path}?format=car HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        status, body, _ = await read(session, f"{path}?format=car")
        assert (status, b"ask again later" in body) == (503, True)
        assert (await read(session, f"{path}?format=raw"))[0] == 200  # blocks are no walks
        writer.transport.abort()
        monkeypatch.setattr(serve, "STALL_S", 0.1)
        async with asyncio.timeout(20):
            while (await read(session, f"{path}?format=car&dag-scope=block"))[0] != 200:
                await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_connection(base.host, base.port, limit=1024)
        writer.write(f"GET {path}?format=car HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(20):
            while (await read(session, f"{path}?format=car&dag-scope=block"))[0] != 200:
                await asyncio.sleep(0.02)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(17 * MIB)
        writer.close()


async def test_a_strict_gateway_answers_with_what_can_be_verified_alone(store: Store, dag: Dag) -> None:
    routes = gateway_routes(store, lambda _request, _visibility: True, strict=True)
    async with serving(routes) as base, aiohttp.ClientSession(base) as session:
        for accept in ("*/*", "text/html", "application/octet-stream"):
            status, body, _ = await read(session, f"/ipfs/{dag.root}", Accept=accept)
            assert (status, b"?format=raw or ?format=car" in body) == (400, True)
        assert (await read(session, f"/ipfs/{dag.root}?format=raw"))[0] == 200
        assert (await read(session, "/ipfs/bafkqaaa"))[:2] == (200, b"")
        assert len(await archive(session, f"/ipfs/{dag.root}?format=car")) == 5


async def test_other_methods_and_service_workers_are_refused(client: aiohttp.ClientSession, dag: Dag) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        async with client.request(method, f"/ipfs/{dag.root}/x") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert (await read(client, f"/ipfs/{dag.root}", Service_Worker="script"))[0] == 400


@pytest.mark.parametrize("form", ["raw", "car"])
async def test_caches_give_what_was_answered_to_a_member_to_nobody_else(
    client: aiohttp.ClientSession, tree: None, form: str
) -> None:
    path = f"/ipfs/{FILE.cid}?format={form}"
    assert (await read(client, path))[2]["Cache-Control"] == "public, max-age=29030400, immutable"
    said = (await read(client, path, Authorization="Layermesh-Mac x"))[2]["Cache-Control"]
    assert said == "private, max-age=29030400, immutable"
