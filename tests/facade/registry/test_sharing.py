"""`share = "cluster"`: members have what one of them fetched with a login, and give it as their own settings say."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from node.manifest import OCI_MANIFEST
from node.reference import Repository
from node.visibility import Visibility
from tests.facade.logins import pull
from tests.facade.machine import Machine, until
from tests.facade.pusher import Pusher
from tests.facade.sharing import NAME, REPOSITORY, blobs_of, member, met, told
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    """A registry that opens to logins only."""
    async with FakeRegistry(auth=Basic({"alice": "secret", "node": "secret"})) as fake:
        yield fake


@pytest.fixture
def secret(corporate: FakeRegistry) -> FakeImage:
    return corporate.push("team/secret", make_image("secret", (2_500_000, 1000)), "v1")


async def test_of_what_three_members_pull_the_registry_sends_one_copy(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        nodes: list[Machine] = []
        for name in "abc":
            nodes.append(await stack.enter_async_context(member(tmp_path / name, registry, corporate, *nodes)))
        for count, node in enumerate(nodes):
            if count:
                await told(node, secret)
            await pull(node, NAME, secret, None)
        assert all(len(corporate.asked("blobs", "GET", blob.digest)) == 1 for blob in secret.blobs)
        assert len(corporate.asked("manifests", "GET")) == 1
        await until(lambda: len(nodes[0].cluster.holders(secret.layers[0].digest, (REPOSITORY,))) == 2)
        for blob in blobs_of(secret):
            holding = await nodes[2].store.find(blob.digest)
            assert holding is not None and holding.visibility is Visibility.SHARED


async def test_with_the_registry_away_a_member_that_never_had_a_login_serves_what_members_share(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a, login=False) as b,
    ):
        await met(b)
        await pull(a, NAME, secret, None)
        await told(b, secret)
        assert (await b.manifest("v1", "team/secret", "corp.test")).status == 404  # the registry says no to its login
        await corporate.stop()
        answer = await b.manifest("v1", "team/secret", "corp.test")
        assert (answer.data, answer.source) == (secret.manifest.data, "peer")
        assert "cluster member a last saw this tag" in answer.headers["Warning"]
        for blob in secret.blobs:
            assert (await b.blob(blob.digest, "team/secret", "corp.test")).data == blob.data
            await b.landed(blob.digest)
        await pull(b, NAME, secret, None)


async def test_what_was_fetched_before_it_is_shared_is_shared_as_well(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with member(tmp_path / "b", registry, corporate, login=False) as b:
        async with member(tmp_path / "a", registry, corporate, b, share=None) as a:
            await pull(a, NAME, secret, None)
        async with member(tmp_path / "a", registry, corporate, b, at=a.mesh) as a:
            await told(b, secret)
            await corporate.stop()
            await pull(b, NAME, secret, None)


async def test_what_is_public_or_pushed_goes_between_members_over_tls_as_ever(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry
) -> None:
    public = registry.push("library/app", make_image("public", (20_000_000, 3_000_000)), "v1")
    own = make_image("own", (5_000_000,))
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a) as b,
    ):
        await met(b)
        await Pusher(a, "team/app").image(own, "v1")
        await pull(a, "docker.io/library/app", public, None)
        await until(lambda: all(b.cluster.holders(each.digest) for each in (*blobs_of(public), *blobs_of(own))))
        await registry.stop()
        await pull(b, "team/app", own, None)
        await pull(b, "docker.io/library/app", public, None)
        assert (await b.get(f"/v2/team/app/blobs/{own.layers[0].digest}", "HEAD")).status == 200
        assert b.cluster.received_bytes >= sum(len(each.data) for each in (*public.blobs, *own.blobs))


async def test_a_layer_that_came_for_another_image_does_not_break_a_pull_where_no_login_works(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    layer, other = secret.layers[0], Repository("corp.test", "team/other")
    image = corporate.push("team/other", make_image("other", (1000,)))
    document = json.loads(image.manifest.data)
    document["layers"].append(layer.described)
    corporate.put_blob("team/other", layer.data)
    digest = corporate.put_manifest("team/other", json.dumps(document).encode(), OCI_MANIFEST)
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a, login=False) as b,
    ):
        await met(b)
        await pull(a, NAME, secret, None)
        assert (await a.manifest(digest, "team/other", "corp.test")).status == 200
        for blob in (*image.blobs, layer):
            assert (await a.blob(blob.digest, "team/other", "corp.test")).data == blob.data
        named = (digest, layer.digest, *(blob.digest for blob in image.blobs))
        await until(lambda: all(b.cluster.holders(each, (other,)) for each in named))
        assert (await b.manifest(secret.manifest.digest, "team/secret", "corp.test")).status == 200
        assert (await b.blob(layer.digest, "team/secret", "corp.test")).data == layer.data
        await b.landed(layer.digest)
        assert (await b.manifest(digest, "team/other", "corp.test")).status == 200
        answer = await b.blob(layer.digest, "team/other", "corp.test")
        assert (answer.status, answer.data) == (200, layer.data)


async def test_what_was_pushed_to_the_cluster_besides_is_shared_as_before(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a, login=False) as b,
    ):
        await met(b)
        await pull(a, NAME, secret, None)
        await Pusher(a, "team/app").image(secret, "v1")
        await told(b, secret)
        await until(lambda: all(b.cluster.holders(each.digest) for each in blobs_of(secret)))
        await corporate.stop()
        await pull(b, NAME, secret, None)


async def test_a_blob_that_is_dropped_is_withdrawn(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a) as b,
    ):
        await pull(a, NAME, secret, None)
        await told(b, secret)
        await a.store.drop(secret.layers[0].digest)
        await until(lambda: not b.cluster.holders(secret.layers[0].digest, (REPOSITORY,)))
        assert b.cluster.holders(secret.layers[1].digest, (REPOSITORY,))
