"""What one repository keeps private, another repository's manifest cannot make public by naming it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from node.digest import Digest
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.visibility import Audience, Visibility
from tests.facade.machine import Machine, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.faults import Fault
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry, Kind
from tests.fakes.registry_auth import Basic

SECRET = b"a secret of the whole cluster"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    """A registry that opens to a login only."""
    async with FakeRegistry(auth=Basic({"me": "secret"})) as fake:
        yield fake


@pytest.fixture
def secret(corporate: FakeRegistry) -> FakeImage:
    return corporate.push("team/secret", make_image("secret", (2_000_000,)), "v1")


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry) -> AsyncIterator[Machine]:
    upstreams = (
        UpstreamConfig.parse("docker.io", registry.url, public=True),
        UpstreamConfig.parse("corp.test", corporate.url, access=Access.CREDENTIALS),
    )
    known = Credentials({(corporate.address, ""): Login("me", "secret")})
    async with machine(tmp_path / "a", registry, upstreams=upstreams, credentials=known) as one:
        yield one


def _naming(registry: FakeRegistry, blob: Blob, media_type: str) -> FakeImage:
    """A public image whose manifest also names somebody else's blob, which its repository does not have."""
    bait = registry.push("evil/x", make_image("bait", (1000,)))
    document = json.loads(bait.manifest.data)
    document["layers"].append({**blob.described, "mediaType": media_type})
    registry.put_manifest("evil/x", json.dumps(document).encode(), OCI_MANIFEST, "v1")
    return bait


async def _pull_secret(node: Machine, secret: FakeImage) -> None:
    assert (await node.manifest("v1", "team/secret", "corp.test")).status == 200
    for blob in secret.blobs:
        assert (await node.blob(blob.digest, "team/secret", "corp.test")).data == blob.data
        await node.landed(blob.digest)


async def _assert_private(node: Machine, blob: Blob) -> None:
    holding = await node.store.find(blob.digest)
    assert holding is not None and holding.visibility is Visibility.PRIVATE
    for audience in Audience:
        entries = (await node.store.changes(0, audience)).entries
        assert not [each for each in entries if getattr(each, "digest", None) == blob.digest]
    assert (await node.ask(f"{node.mesh}/ipfs/{holding.cid}")).status == 404
    assert (await node.blob(blob.digest, "evil/x")).status == 404


@pytest.mark.parametrize("media_type", [FOREIGN, OCI_LAYER])
@pytest.mark.parametrize("named_first", [True, False], ids=["named first", "held first"])
async def test_a_public_manifest_that_names_a_private_blob_does_not_open_it(
    node: Machine, registry: FakeRegistry, secret: FakeImage, named_first: bool, media_type: str
) -> None:
    _naming(registry, secret.layers[0], media_type)
    if named_first:
        assert (await node.manifest("v1", "evil/x")).status == 200
        await _pull_secret(node, secret)
    else:
        await _pull_secret(node, secret)
        assert (await node.manifest("v1", "evil/x")).status == 200
    await _assert_private(node, secret.layers[0])


async def test_a_layer_that_is_public_elsewhere_becomes_so_once_upstream_showed_it_to_anybody(
    node: Machine, registry: FakeRegistry, corporate: FakeRegistry
) -> None:
    base = make_image("base", (2_000_000,))
    corporate.push("team/secret", base, "v1")
    registry.push("library/base", base, "v1")
    await _pull_secret(node, base)
    holding = await node.store.find(base.layers[0].digest)
    assert holding is not None and holding.visibility is Visibility.PRIVATE
    assert (await node.manifest("v1", "library/base")).status == 200
    assert (await node.blob(base.layers[0].digest, "library/base")).data == base.layers[0].data
    async with asyncio.timeout(10):
        while (await node.store.find(base.layers[0].digest) or holding).visibility is not Visibility.PUBLIC:
            await asyncio.sleep(0.01)


async def test_the_same_manifest_asked_for_under_another_name_does_not_open_it_either(
    node: Machine, registry: FakeRegistry, secret: FakeImage
) -> None:
    _naming(registry, secret.layers[0], OCI_LAYER)
    await _pull_secret(node, secret)
    evil = await node.manifest("v1", "evil/x")
    for name in ("evil/other", "team/secret"):
        await node.manifest(evil.headers["Docker-Content-Digest"], name)
        assert (await node.blob(secret.layers[0].digest, name)).status == 404


async def test_a_private_manifest_named_by_a_public_index_stays_private(
    node: Machine, registry: FakeRegistry, secret: FakeImage
) -> None:
    await _pull_secret(node, secret)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [secret.manifest.described]}
    registry.put_manifest("evil/x", json.dumps(index).encode(), OCI_INDEX, "v1")
    assert (await node.manifest("v1", "evil/x")).status == 200
    assert (await node.manifest(secret.manifest.digest, "evil/x")).status == 404
    holding = await node.store.find(secret.manifest.digest)
    assert holding is not None and holding.visibility is Visibility.PRIVATE


async def test_a_private_blob_on_its_way_is_not_given_to_another_repositorys_client(
    node: Machine, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    layer = secret.layers[0]
    _naming(registry, layer, OCI_LAYER)
    assert (await node.manifest("v1", "evil/x")).status == 200
    assert (await node.manifest("v1", "team/secret", "corp.test")).status == 200
    corporate.fault("blobs", layer.digest, Fault(stall_after=1_900_000, times=1))
    async with asyncio.TaskGroup() as group:
        pulling = group.create_task(node.blob(layer.digest, "team/secret", "corp.test"))
        await corporate.until(lambda: bool(corporate.asked("blobs", selector=layer.digest)))
        assert (await node.blob(layer.digest, "evil/x")).status == 404
    assert pulling.result().data == layer.data
    await node.landed(layer.digest)
    await _assert_private(node, layer)


async def test_what_members_share_among_themselves_is_not_published_by_a_public_manifest_that_names_it(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    shared = make_image("members only", (2_000_000,)).layers[0]
    async with fake_peer(FakePeer(secret=SECRET)) as peer:
        peer.hold(shared.data, visibility="members")
        _naming(registry, shared, OCI_LAYER)
        async with machine(tmp_path / "b", registry, secret=SECRET, joins=(str(peer.url),)) as node:
            await until(lambda: node.cluster.holders(shared.digest))
            assert (await node.manifest("v1", "evil/x")).status == 200
            assert (await node.blob(shared.digest, "evil/x")).data == shared.data
            await node.landed(shared.digest)
            holding = await node.store.find(shared.digest)
            assert holding is not None and holding.visibility is Visibility.MEMBERS


async def test_an_upstream_that_only_says_that_it_has_a_blob_opens_nothing(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    """What was pushed here, or is private here, is not given to clients of a repository that merely names it."""
    secret, hidden = b"what somebody pushed to team/secret", b"what is private here"
    async with machine(tmp_path / "a", registry) as node:
        await Pusher(node, "team/secret").blob(secret)
        await node.store.put(Digest.of(hidden), hidden)
        for data in (secret, hidden):
            digest = registry.put_blob("evil/x", data)
            registry.fault("blobs", digest, Fault(flip_at=0, method="GET"))
            answer = await node.blob(digest, name="evil/x")
            assert answer.status != 200 or answer.cut
            assert data not in answer.data
            holding = await node.store.find(digest)
            assert holding is not None and holding.visibility is not Visibility.PUBLIC


async def test_an_upstream_that_only_names_a_manifest_opens_nothing(tmp_path: Path, registry: FakeRegistry) -> None:
    image, bait = make_image("secret", (1000,)), make_image("bait", (1000,))
    async with machine(tmp_path / "a", registry) as node:
        await Pusher(node, "team/secret").image(image, "v1")
        registry.push("evil/x", bait, "v1")
        assert (await node.manifest("v1", name="evil/x")).status == 200
        registry.push("evil/x", image, "v1")
        registry.fault("manifests", "*", Fault(flip_at=0, method="GET"))
        answer = await node.manifest("v1", name="evil/x")
        assert answer.data != image.manifest.data
        for blob in (image.manifest, *image.blobs):
            holding = await node.store.find(blob.digest)
            assert holding is not None and holding.visibility is Visibility.MEMBERS


async def _neighbours_own(stack: AsyncExitStack, tmp_path: Path, registry: FakeRegistry) -> tuple[Machine, Machine]:
    """A member that has an own image, and one that knows of it and has none of its bytes."""
    a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
    b = await stack.enter_async_context(machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,)))
    await until(lambda: a.cluster.peers() and b.cluster.peers())
    return a, b


@pytest.mark.parametrize("deleted", [False, True], ids=["kept", "deleted"])
async def test_an_upstream_that_names_a_members_own_image_lends_it_to_nobody(
    tmp_path: Path, registry: FakeRegistry, deleted: bool
) -> None:
    """Clients of a mirrored repository get from upstream itself what own repositories hold, or not at all."""
    image = make_image("own", (2_000_000,))
    registry.push("evil/x", image, "v1")
    for blob in (image.manifest, *image.blobs):
        kind: Kind = "manifests" if blob is image.manifest else "blobs"
        registry.fault(kind, blob.digest, Fault(status=500, method="GET"))
    registry.fault("manifests", "v1", Fault(status=500, method="GET"))
    async with AsyncExitStack() as stack:
        a, b = await _neighbours_own(stack, tmp_path, registry)
        await Pusher(a, "team/secret").image(image, "v1")
        await until(lambda: all(b.cluster.holders(each.digest) for each in (image.manifest, *image.blobs)))
        if deleted:
            await Pusher(a, "team/secret").send("DELETE", f"manifests/{image.manifest.digest}")
            for blob in image.blobs:
                await Pusher(a, "team/secret").send("DELETE", f"blobs/{blob.digest}")
        for path in (f"manifests/{image.manifest.digest}", "manifests/v1", f"blobs/{image.layers[0].digest}"):
            answer = await b.get(f"/v2/docker.io/evil/x/{path}")
            assert answer.status != 200
        assert await b.store.find(image.manifest.digest) is None
        if not deleted:
            assert (await b.get("/v2/team/secret/manifests/v1")).data == image.manifest.data


async def test_what_a_member_shares_becomes_public_only_once_upstream_gave_its_bytes_to_anybody(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    image = registry.push("library/app", make_image("shared", (1000,)), "v1")
    registry.fault("manifests", image.manifest.digest, Fault(flip_at=0, method="GET"))
    async with fake_peer(FakePeer(secret=SECRET)) as peer:
        for blob in (image.manifest, *image.blobs):
            peer.hold(blob.data, visibility="members")
        async with machine(tmp_path / "b", registry, secret=SECRET, joins=(str(peer.url),)) as node:
            await until(lambda: node.cluster.holders(image.layers[0].digest))
            for selector in (image.manifest.digest, "v1"):
                assert (await node.manifest(selector, "library/app")).data == image.manifest.data
            await registry.until(lambda: bool(registry.asked("manifests", "GET", image.manifest.digest)))
            holding = await node.store.find(image.manifest.digest)
            assert holding is not None and holding.visibility is Visibility.MEMBERS
            registry.heal()
            async with asyncio.timeout(10):
                while (await node.store.find(image.manifest.digest) or holding).visibility is not Visibility.PUBLIC:
                    assert (await node.manifest("v1", "library/app")).status == 200
                    await asyncio.sleep(0.05)
