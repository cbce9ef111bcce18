"""A private image, and everything that others can ask of a node: no answer holds its bytes, its digests or its name.

Every reader asks every route, under every name, for every digest of it; then every message between nodes, and the
gateway, as a stranger and as a member. What a node says of its own accord is read as well.
"""

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.auth import Keys
from cluster.wire import HELLO, LOG, Caller
from facade.registry.client_logins import TOKEN_PATH, ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from node.cid import Cid
from node.digest import Digest
from node.manifest import OCI_MANIFEST
from tests.facade.logins import basic, pull
from tests.facade.machine import Machine, Pulled, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.faults import Fault
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.peer import FakePeer, dag_of, fake_peer
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

CLUSTER_SECRET = b"a secret of the whole cluster"
REPOSITORY, TAG = "hush/hidden", "unspoken"
ALICE = basic("alice")
MALLORY = basic("mallory", "guess")
MEMBER_ID = "e" * 32
MOUNT_SOURCES = (None, REPOSITORY, f"corp.test/{REPOSITORY}", f"pass.test/{REPOSITORY}", "docker.io/evil/x", "team/app")


@dataclass
class Scene:
    """A node that holds one private image of each kind, and those who would like to know."""

    node: Machine
    peer: FakePeer
    images: tuple[FakeImage, FakeImage]
    """The first opened by the node's own login, granted to its clients; the second by its client's."""
    found: list[str] = field(default_factory=list)

    @property
    def blobs(self) -> list[Blob]:
        return [blob for image in self.images for blob in (image.manifest, *image.blobs)]

    def look(self, what: str, answer: Pulled) -> None:
        """Note what an answer gives away that was not in the question."""
        said = answer.data + repr(sorted(answer.headers.items())).encode()
        for needle in self.needles():
            if needle in said and needle not in what.encode():
                self.found.append(f"{what}: {answer.status}, {needle[:80]!r}")

    def needles(self) -> Iterator[bytes]:
        yield from (REPOSITORY.encode(), TAG.encode())
        for blob in self.blobs:
            yield from (blob.digest.hex.encode(), bytes.fromhex(blob.digest.hex))
            yield blob.data[:64]
            yield blob.data[-64:]
            for cid in cids_of(blob.data):
                yield from (str(cid).encode(), cid.raw)


def cids_of(data: bytes) -> set[Cid]:
    """The root, and every leaf and node."""
    dag = dag_of(data)
    leaves = (dag.leaf(index).cid for index in range(dag.leaf_count))
    return {dag.root, *(cid for cid, _ in dag.interior), *leaves}


def spoil(evil: FakeRegistry, images: tuple[FakeImage, ...]) -> None:
    """A public upstream that names all of it, says that it has it, and gives other bytes."""
    for image in images:
        for blob in image.blobs:
            evil.put_blob("evil/x", blob.data)
            evil.fault("blobs", blob.digest, Fault(data=b"x" * blob.size, method="GET"))
        manifest = evil.put_manifest("evil/x", image.manifest.data, OCI_MANIFEST)
        evil.fault("manifests", manifest, Fault(data=b"{}", method="GET"))


@pytest.fixture
async def scene(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Scene]:
    images = (make_image("lent", (2_500_000,)), make_image("passed", (2_500_000,)))
    users = Basic({"alice": "secret", "node": "secret"})
    async with (
        FakeRegistry(auth=users) as lent,
        FakeRegistry(auth=users) as passed,
        fake_peer(FakePeer(secret=CLUSTER_SECRET)) as peer,
    ):
        for corporate, image in zip((lent, passed), images, strict=True):
            corporate.push(REPOSITORY, image, TAG)
        spoil(registry, images)
        upstreams = (
            UpstreamConfig.parse("docker.io", registry.url, public=True),
            UpstreamConfig.parse("corp.test", lent.url, access=Access.CREDENTIALS),
            UpstreamConfig.parse("pass.test", passed.url, public=True, access=Access.PASSTHROUGH),
        )
        async with machine(
            tmp_path / "keeper",
            registry,
            upstreams=upstreams,
            credentials=Credentials({(lent.address, ""): Login("node", "secret")}),
            gate=Gate(clients=ClientLogins()),
            secret=CLUSTER_SECRET,
            joins=(str(peer.url),),
        ) as node:
            await until(lambda: bool(peer.greeted))
            await Pusher(node, "team/app").image(make_image("own", (1000,)), "v1")
            await pull(node, f"corp.test/{REPOSITORY}", images[0], None, TAG)
            await pull(node, f"pass.test/{REPOSITORY}", images[1], ALICE, TAG)
            yield Scene(node, peer, images)


def registry_routes(digests: list[Digest]) -> Iterator[tuple[str, str]]:
    """Every route of the registry that reads, for everything private, under every name that is not its own."""
    names = ("docker.io/evil/x", "docker.io/library/other", "team/app", REPOSITORY, f"pass.test/{REPOSITORY}")
    suffixes = [f"manifests/{TAG}", "tags/list"]
    for digest in digests:
        suffixes += [f"manifests/{digest}", f"blobs/{digest}", f"referrers/{digest}"]
    for name, suffix, method in itertools.product(names, suffixes, ("GET", "HEAD")):
        yield method, f"/v2/{name}/{suffix}"
        namespace, dot, rest = name.partition("/")
        if "." in namespace and dot:
            yield method, f"/v2/{rest}/{suffix}?ns={namespace}"
    for path in ("/v2/", "/v2/_catalog", TOKEN_PATH, "/v2/corp.test/_catalog"):
        yield "GET", path


@pytest.mark.parametrize("reader", [None, MALLORY], ids=["nobody", "mallory"])
async def test_no_route_of_the_registry_gives_it_away(scene: Scene, reader: str | None) -> None:
    node, asked = scene.node, 0
    headers = {"Authorization": reader} if reader else {}
    for method, path in registry_routes([blob.digest for blob in scene.blobs]):
        for base in (node.facade, node.docker):
            answer = await node.ask(f"{base}{path}", method, headers)
            asked += 1
            scene.look(f"{method} {path}", answer)
    assert not scene.found and asked > 500


@pytest.mark.parametrize("reader", [None, MALLORY], ids=["nobody", "mallory"])
async def test_no_part_of_it_is_given_away(scene: Scene, reader: str | None) -> None:
    headers = {"Range": "bytes=0-99"} | ({"Authorization": reader} if reader else {})
    for blob, name in itertools.product(scene.blobs, ("docker.io/evil/x", "team/app", f"pass.test/{REPOSITORY}")):
        path = f"/v2/{name}/blobs/{blob.digest}"
        scene.look(path, await scene.node.get(path, **headers))
    assert not scene.found


@pytest.mark.parametrize("source", MOUNT_SOURCES)
async def test_no_mount_lends_it(scene: Scene, source: str | None) -> None:
    node = scene.node
    for blob in scene.blobs:
        query = f"mount={blob.digest}" + (f"&from={source}" if source else "")
        answer = await node.get(f"/v2/team/app/blobs/uploads/?{query}", "POST")
        scene.look(query, answer)
        assert answer.status in (202, 400, 404)
        assert (await node.get(f"/v2/team/app/blobs/{blob.digest}")).status == 404
    assert not scene.found


async def test_no_pushed_manifest_lends_it(scene: Scene) -> None:
    for image in scene.images:
        for tag, name in itertools.product(("v2", str(image.manifest.digest)), ("team/app", REPOSITORY)):
            answer = await Pusher(scene.node, name).manifest(tag, image.manifest.data)
            assert answer.status in (400, 404)
            assert (await scene.node.get(f"/v2/{name}/manifests/{tag}")).status == 404


def mesh_routes(blobs: list[Blob], log_id: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Everything that another node, or an IPFS tool, may ask."""
    yield "GET", HELLO, {}
    for since in (0, 1, 10_000):
        yield "GET", f"{LOG}?id={log_id}&since={since}&wait=0", {}
    for blob in blobs:
        for cid, method in itertools.product(cids_of(blob.data), ("GET", "HEAD")):
            yield method, f"/ipfs/{cid}", {}
            yield method, f"/ipfs/{cid}?format=raw", {}
            yield method, f"/ipfs/{cid}?format=car", {}
            yield method, f"/ipfs/{cid}?format=car&dag-scope=block", {}
            yield method, f"/ipfs/{cid}/name?format=car", {}
            yield method, f"/ipfs/{cid}", {"Cache-Control": "only-if-cached"}
            yield method, f"/ipfs/{cid}", {"Accept": "application/vnd.ipld.raw"}
            yield method, f"/ipfs/{cid}", {"Range": "bytes=0-9"}
            yield method, f"/ipfs/{cid}", {"If-None-Match": f'"{cid}"'}


@pytest.mark.parametrize("member", [False, True], ids=["stranger", "member"])
async def test_no_message_and_no_block_gives_it_away(scene: Scene, member: bool) -> None:
    node = scene.node
    caller = Caller(MEMBER_ID, Keys.of(CLUSTER_SECRET) if member else None, time.time)
    answered = set()
    for method, path, headers in mesh_routes(scene.blobs, node.store.log_id):
        proof, _ = caller.proof(node.store.node_id, method, path)
        answer = await node.ask(f"{node.mesh}{path}", method, headers | proof)
        answered.add((path.partition("?")[0].split("/")[1], answer.status))
        scene.look(f"{method} {path}", answer)
    assert not scene.found
    assert ("ipfs", 200) not in answered and ("ipfs", 304) not in answered and ("ipfs", 206) not in answered
    assert ("mesh", 200) in answered


async def test_a_node_says_nothing_of_it_of_its_own_accord(scene: Scene) -> None:
    """Its greetings, its questions to a member, and its metrics."""
    data, _ = await scene.node.metrics.expose()
    said = [repr(scene.peer.greeted).encode(), repr(scene.peer.requests).encode(), data]
    assert scene.peer.requests
    for needle in scene.needles():
        assert not any(needle in each for each in said), needle[:80]


async def test_those_who_may_read_it_still_do(scene: Scene) -> None:
    """The table above means something only while this holds."""
    await pull(scene.node, f"corp.test/{REPOSITORY}", scene.images[0], MALLORY, TAG)
    await pull(scene.node, f"pass.test/{REPOSITORY}", scene.images[1], ALICE, TAG)
