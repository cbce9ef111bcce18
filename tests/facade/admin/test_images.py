"""What export and import ask a node for: images as a client without a login may have them, fetched with progress."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from facade.admin.app import _refusing
from facade.admin.images import WholeImages
from facade.images import keeping
from facade.settings import Address
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from node.cid import Cid
from node.digest import Digest
from node.foreign import Part
from node.records import RESTORED
from node.reference import OWN, Repository
from node.unixfs import build_dag
from node.visibility import Proof, Visibility
from tests.facade.machine import Machine, machine
from tests.facade.members import member
from tests.facade.pusher import Pusher
from tests.fakes.faults import Fault
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

IMAGE = make_image("asked", (2_500_000, 1000))
LAYER = IMAGE.layers[0]
WHERE = {"namespace": "docker.io", "repository": "team/app"}
OURS = {"namespace": "local", "repository": "team/app"}


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        fake.push("team/app", IMAGE, "v1")
        yield fake


@asynccontextmanager
async def asking(node: Machine) -> AsyncIterator[ClientSession]:
    """A client of the node's admin listener."""
    facade = Address("127.0.0.1", int(node.facade.rpartition(":")[2]))
    app = web.Application(middlewares=[_refusing])
    app.add_routes(WholeImages(node.store, node.registry.images, node.registry.admitting, facade).routes())
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as session:
        yield session


@pytest.fixture
async def client(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[ClientSession]:
    async with machine(tmp_path / "a", registry) as node, asking(node) as session:
        yield session


async def get(client: ClientSession, path: str, **query: str) -> tuple[int, Any]:
    async with client.get(f"/api/images/{path}", params=query) as answer:
        return answer.status, await answer.json()


async def fetch(client: ClientSession, *digests: Digest, where: dict[str, str] = WHERE) -> list[dict[str, Any]]:
    """The lines that a fetch answers."""
    question = {**where, "digests": [str(digest) for digest in digests]}
    async with client.post("/api/images/fetch", json=question) as answer:
        assert answer.status == 200
        return [json.loads(line) for line in (await answer.read()).splitlines()]


async def test_an_image_is_named_as_people_write_it(client: ClientSession) -> None:
    for ref in ("team/app:v1", "docker.io/team/app:v1"):
        status, found = await get(client, "named", ref=ref)
        assert (status, found["tag"], base64.b64decode(found["data"])) == (200, "v1", IMAGE.manifest.data)
        assert {name: found[name] for name in WHERE} == WHERE
    status, found = await get(client, "manifest", **WHERE, digest=str(IMAGE.manifest.digest))
    assert (status, found["tag"], found["media_type"]) == (200, None, IMAGE.manifest.media_type)


async def test_blobs_are_fetched_and_then_read_with_their_dags(client: ClientSession) -> None:
    await get(client, "named", ref="team/app:v1")
    lines = await fetch(client, *(blob.digest for blob in IMAGE.blobs))
    assert lines[-1] == {"received": sum(blob.size for blob in IMAGE.blobs), "done": True}
    assert (await fetch(client, LAYER.digest))[-1] == {"received": 0, "done": True}
    _, dag = await get(client, "dag", **WHERE, digest=str(LAYER.digest))
    built = build_dag(dag["size"], base64.b64decode(dag["leaves"]))
    assert (built.size, built.leaf_count) == (LAYER.size, 3)
    query = {**WHERE, "digest": str(LAYER.digest)}
    async with client.get("/api/images/blob", params=query) as answer:
        assert await answer.read() == LAYER.data
    async with client.get("/api/images/blob", params=query, headers={"Range": "bytes=2000000-"}) as answer:
        assert (answer.status, await answer.read()) == (206, LAYER.data[2_000_000:])


async def test_what_is_not_to_be_had_ends_a_fetch_with_the_reason(
    client: ClientSession, registry: FakeRegistry
) -> None:
    await get(client, "named", ref="team/app:v1")
    registry.fault("blobs", LAYER.digest, Fault(status=500))
    *_, last = await fetch(client, *(blob.digest for blob in IMAGE.blobs))
    assert last["status"] == 503 and str(LAYER.digest) in last["error"]
    registry.heal()
    *_, last = await fetch(client, Digest.of(b"nobody has it"))
    assert last["status"] in (404, 503)
    assert (await fetch(client, LAYER.digest))[-1]["done"]


async def test_a_fetch_tells_how_far_it_is_and_goes_on_when_nobody_listens(
    client: ClientSession, registry: FakeRegistry
) -> None:
    await get(client, "named", ref="team/app:v1")
    registry.fault("blobs", LAYER.digest, Fault(drip=(100_000, 0.05)))
    question = {**WHERE, "digests": [str(LAYER.digest)]}
    async with client.post("/api/images/fetch", json=question) as answer:
        told = 0
        while not told:
            told = json.loads(await answer.content.readline())["received"]
    assert told < LAYER.size
    registry.heal()
    async with asyncio.timeout(20):
        while (await get(client, "dag", **WHERE, digest=str(LAYER.digest)))[0] != 200:
            await asyncio.sleep(0.05)


async def test_what_another_member_has_is_fetched_from_it(tmp_path: Path, registry: FakeRegistry) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b, asking(b) as client:
        await Pusher(a).image(IMAGE, "v1")
        ref = f"{b.facade.removeprefix('http://')}/team/app:v1"
        async with asyncio.timeout(20):
            while (await get(client, "named", ref=ref))[0] != 200:
                await asyncio.sleep(0.05)
        assert (await fetch(client, LAYER.digest, where=OURS))[-1] == {"received": LAYER.size, "done": True}
        assert (await get(client, "dag", **OURS, digest=str(LAYER.digest)))[0] == 200


@pytest.mark.parametrize("path", ["dag", "blob"])
async def test_what_is_not_here_or_not_of_the_repository_is_not_given(
    tmp_path: Path, registry: FakeRegistry, path: str
) -> None:
    async with machine(tmp_path / "a", registry) as node, asking(node) as client:
        await get(client, "named", ref="team/app:v1")
        assert (await get(client, path, **WHERE, digest=str(LAYER.digest)))[0] == 404
        hidden = b"what another repository keeps to itself"
        await node.store.put(Digest.of(hidden), hidden)
        assert (await get(client, path, **WHERE, digest=str(Digest.of(hidden))))[0] == 404


@pytest.mark.parametrize("access", [Access.REFUSE, Access.PASSTHROUGH])
async def test_what_only_logins_may_read_is_not_given(tmp_path: Path, access: Access) -> None:
    async with FakeRegistry(auth=Basic({"me": "secret"})) as corporate:
        corporate.push("team/secret", IMAGE, "v1")
        upstreams = (UpstreamConfig.parse("corp.test", corporate.url, access=access),)
        known = Credentials({(corporate.address, ""): Login("me", "secret")})
        async with (
            machine(tmp_path / "a", corporate, upstreams=upstreams, credentials=known) as node,
            asking(node) as client,
        ):
            status, said = await get(client, "named", ref="corp.test/team/secret:v1")
            assert status >= 400 and "corp.test/team/secret:v1: " in said["error"]


async def test_images_are_asked_about_and_entered(tmp_path: Path, registry: FakeRegistry) -> None:
    async with machine(tmp_path / "a", registry) as node, asking(node) as client:
        line = {"name": f"{node.facade.removeprefix('http://')}/team/app:v2", "digest": str(IMAGE.manifest.digest)}

        async def admit(**more: Any) -> tuple[int, Any]:
            async with client.post("/api/images/admit", json={"images": [line], **more}) as answer:
                return answer.status, await answer.json()

        assert await admit(checked=True) == (200, {"names": ["team/app:v2"], "root": None})
        assert (await admit())[0] == 404
        for blob in (IMAGE.manifest, *IMAGE.blobs):
            await node.store.put(blob.digest, blob.data, None, Repository(OWN, RESTORED))
        status, entered = await admit(public=True)
        assert (status, entered["names"]) == (200, ["team/app:v2"])
        assert (await node.get("/v2/team/app/manifests/v2")).data == IMAGE.manifest.data
        (root,) = await node.store.foreign.roots()
        assert (str(root.cid), root.visibility) == (entered["root"], Visibility.PUBLIC)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b'{"images": ["\xff"]}', b'{"images": [], "more": 1}', b'{"images": [{"name": "a:b"}]}']
)
async def test_a_question_that_is_malformed_is_refused(client: ClientSession, body: bytes) -> None:
    async with client.post("/api/images/admit", data=body) as answer:
        assert answer.status == 400
        assert "the body" in (await answer.json())["error"]


PIECE = LAYER.data[1000:1300]


def block(**line: Any) -> dict[str, Any]:
    """A block as import sends it: a range of the layer, unless it says otherwise."""
    within = {"within": str(LAYER.digest), "offset": 1000, "length": 300}
    cid = line.pop("cid", Cid.of(PIECE))
    return {"cid": base64.b64encode(cid.raw).decode(), **(line or within)}


async def keep(client: ClientSession, *blocks: dict[str, Any], **more: Any) -> tuple[int, Any]:
    question = {"root": base64.b64encode(Cid.of(PIECE).raw).decode(), "blocks": blocks, "whole": True, **more}
    async with client.post("/api/images/blocks", json=question) as answer:
        return answer.status, await answer.json()


async def test_blocks_of_another_cut_are_kept_as_ranges_of_the_blob(tmp_path: Path, registry: FakeRegistry) -> None:
    async with machine(tmp_path / "a", registry) as node, asking(node) as client:
        await node.store.put(LAYER.digest, LAYER.data, Proof(Visibility.PUBLIC))
        assert await keep(client, block(), public=True) == (200, {"kept": 1})
        assert (await node.ask(f"{node.mesh}/ipfs/{Cid.of(PIECE)}?format=raw")).data == PIECE


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"cid": Cid.of(b"another")}, "hashes to something else"),
        ({"within": str(LAYER.digest), "offset": LAYER.size, "length": 1}, "no such range"),
        ({"within": str(LAYER.digest), "offset": -1, "length": 300}, "no such range"),
        ({"within": str(LAYER.digest), "offset": 0, "length": 1 << 40}, "no such range"),
        ({"within": str(Digest.of(b"nowhere")), "offset": 0, "length": 1}, "not here"),
        ({"data": base64.b64encode(b"other").decode()}, "hash to something else"),
    ],
)
async def test_a_block_that_is_not_what_it_is_said_to_be_is_not_kept(
    tmp_path: Path, registry: FakeRegistry, line: dict[str, Any], reason: str
) -> None:
    async with machine(tmp_path / "a", registry) as node, asking(node) as client:
        await node.store.put(LAYER.digest, LAYER.data, Proof(Visibility.PUBLIC))
        status, said = await keep(client, block(**line), public=True)
        assert status >= 400 and reason in said["error"]
        assert await node.store.foreign.roots() == ()


async def test_a_blob_that_others_may_not_have_is_not_shown_in_parts(tmp_path: Path, registry: FakeRegistry) -> None:
    async with machine(tmp_path / "a", registry) as node, asking(node) as client:
        await node.store.put(LAYER.digest, LAYER.data, Proof(Visibility.MEMBERS))
        assert (await keep(client, block(), public=True))[0] == 400
        assert (await keep(client, block()))[0] == 200


async def test_few_blobs_are_open_at_once_while_their_ranges_are_looked_at(
    tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_OPEN", 2)
    async with machine(tmp_path / "a", registry) as node, AsyncExitStack() as stack:
        parts = keeping.VerifiedParts(node.store, stack, Visibility.PUBLIC)
        for at in range(9):
            data = b"%d" % at * 100
            await node.store.put(Digest.of(data), data, Proof(Visibility.PUBLIC))
            part = Part(Cid.of(data[:10]), Digest.of(data), 0, 10)
            assert await parts.verified(part) == part
            assert 1 <= sum("/blobs/" in target for target in _open_files()) <= 2


def _open_files() -> list[str]:
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder's own
            links.append(str(link.readlink()))
    return links
