"""What one repository keeps private, another repository's manifest cannot make public by naming it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from node.manifest import OCI_MANIFEST
from node.visibility import Audience, Visibility
from tests.facade.machine import Machine, machine, until
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

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


@pytest.mark.parametrize("media_type", [FOREIGN, "application/vnd.oci.image.layer.v1.tar+gzip"])
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
    seen: list[Visibility] = []

    async def look() -> None:
        holding = await node.store.find(base.layers[0].digest)
        seen.append(holding.visibility if holding else Visibility.PRIVATE)

    for _ in range(200):
        await look()
        if seen[-1] is Visibility.PUBLIC:
            break
        await until(lambda: True)
    assert seen[-1] is Visibility.PUBLIC
