"""`share = "cluster"`: members have what one of them fetched with a login, and give it as their own settings say."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from yarl import URL

from cluster.tls import make_certificate
from facade.registry.admitting import Brought
from facade.registry.client_logins import ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, Share, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials, Login
from node.cid import Cid
from node.digest import Digest
from node.errors import NotFoundError
from node.manifest import OCI_MANIFEST
from node.records import RESTORED
from node.reference import OWN, Repository, Tag
from node.visibility import Audience, Visibility
from tests.facade.logins import basic, get, pull
from tests.facade.machine import Machine, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.images import Blob, FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic

SECRET = b"a secret of the whole cluster"
NAME, REPOSITORY = "corp.test/team/secret", Repository("corp.test", "team/secret")
ALICE, MALLORY = basic("alice"), basic("mallory", "guess")
CREDENTIALS, PASSTHROUGH = Access.CREDENTIALS, Access.PASSTHROUGH


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    """A registry that opens to logins only."""
    async with FakeRegistry(auth=Basic({"alice": "secret", "node": "secret"})) as fake:
        yield fake


@pytest.fixture
def secret(corporate: FakeRegistry) -> FakeImage:
    return corporate.push("team/secret", make_image("secret", (2_500_000, 1000)), "v1")


def member(
    folder: Path,
    registry: FakeRegistry,
    corporate: FakeRegistry,
    *joins: Machine | FakePeer,
    access: Access = CREDENTIALS,
    share: Share | None = Share.CLUSTER,
    login: bool = True,
    at: str = "",
) -> AbstractAsyncContextManager[Machine]:
    """A node over TLS, with or without a login for the registry; started anew `at` the mesh address it had."""
    upstreams = (
        UpstreamConfig.parse("docker.io", registry.url, public=True),
        replace(UpstreamConfig.parse("corp.test", corporate.url, access=access), share=share),
    )
    return machine(
        folder,
        registry,
        upstreams=upstreams,
        credentials=Credentials({(corporate.address, ""): Login("node", "secret")}) if login else NO_CREDENTIALS,
        gate=Gate(clients=ClientLogins()) if access is PASSTHROUGH else None,
        secret=SECRET,
        joins=tuple(str(one.url) if isinstance(one, FakePeer) else one.mesh for one in joins),
        mesh_tls=True,
        mesh_port=URL(at).port or 0 if at else 0,
    )


def blobs_of(image: FakeImage) -> tuple[Blob, ...]:
    return (image.manifest, *image.blobs)


async def told(node: Machine, image: FakeImage, repository: Repository = REPOSITORY) -> None:
    """Wait until a node knows of a member that has all of it."""
    await until(lambda: all(node.cluster.holders(each.digest, (repository,)) for each in blobs_of(image)))


async def met(node: Machine, count: int = 1) -> None:
    await until(lambda: sum(peer.member for peer in node.cluster.peers()) == count)


async def refusals(node: Machine, image: FakeImage, login: str | None = None) -> set[int]:
    """How all of it is answered; no answer holds any of it."""
    statuses = set()
    for selector in ("manifests/v1", *(f"manifests/{image.manifest.digest}",), *_blob_paths(image)):
        for path in (f"/v2/{NAME}/{selector}", f"/v2/team/secret/{selector}?ns=corp.test"):
            answer = await get(node, path, login)
            assert not any(each.data in answer.data for each in blobs_of(image))
            statuses.add(answer.status)
    return statuses


def _blob_paths(image: FakeImage) -> tuple[str, ...]:
    return tuple(f"blobs/{blob.digest}" for blob in image.blobs)


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


async def test_nobody_but_members_over_tls_hears_of_it(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with member(tmp_path / "a", registry, corporate) as a:
        await pull(a, NAME, secret, None)
        for audience in (Audience.PUBLIC, Audience.MEMBERS):
            assert not (await a.store.changes(0, audience)).entries
        shared = (await a.store.changes(0, Audience.SHARING)).entries
        assert len(shared) == len(blobs_of(secret)) + 1  # and the tag
        for blob in blobs_of(secret):
            holding = await a.store.find(blob.digest)
            assert holding is not None
            assert (await a.ask(f"{a.mesh}/ipfs/{holding.cid}")).status == 404


async def test_members_hear_of_no_private_repository_that_has_what_is_public_elsewhere(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry
) -> None:
    image = make_image("both", (1000,))
    for upstream, repository in ((registry, "library/app"), (corporate, "team/secret")):
        upstream.push(repository, image, "v1")
    async with (
        member(tmp_path / "a", registry, corporate, share=None) as a,
        member(tmp_path / "b", registry, corporate, a, share=None) as b,
    ):
        await met(b)
        await pull(a, "docker.io/library/app", image, None)
        await until(lambda: b.cluster.holders(image.manifest.digest))
        for selector in (image.manifest.digest, "v1"):  # by digest members alone are asked
            assert (await b.manifest(selector, "team/secret", "corp.test")).data == image.manifest.data
        assert "team/secret" not in repr((await b.store.changes(0, Audience.SHARING)).entries)


@pytest.mark.parametrize("access", list(Access))
async def test_a_member_that_does_not_share_the_namespace_knows_nothing_of_it(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage, access: Access
) -> None:
    public = registry.push("library/app", make_image("public", (1000,)), "v1")
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a, access=access, share=None, login=False) as b,
    ):
        await met(b)
        await pull(a, NAME, secret, None)
        await pull(a, "docker.io/library/app", public, None)
        await until(lambda: b.cluster.holders(public.layers[0].digest))  # its log was read as far as that
        assert not any(b.cluster.holders(each.digest, (REPOSITORY,)) for each in blobs_of(secret))
        assert b.cluster.tag(REPOSITORY, Tag("v1"), 1e12) is None
        for stopped in (False, True):
            assert await refusals(b, secret) <= {401, 404, 503}
            assert await refusals(b, secret, MALLORY) <= {401, 404, 503}
            if not stopped:
                await corporate.stop()


async def test_where_the_registry_judges_clients_each_shows_its_own_right_and_silence_opens_nothing(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with (
        member(tmp_path / "a", registry, corporate, access=PASSTHROUGH) as a,
        member(tmp_path / "b", registry, corporate, a, access=PASSTHROUGH) as b,
    ):
        await pull(a, NAME, secret, ALICE)
        await told(b, secret)
        assert await refusals(b, secret, MALLORY) == {404}
        assert await refusals(b, secret) == {401}
        before = len(corporate.asked("blobs", "GET"))
        await pull(b, NAME, secret, ALICE)
        assert len(corporate.asked("blobs", "GET")) == before
        await corporate.stop()
        assert await refusals(b, secret, basic("node")) <= {404, 503}
        assert await refusals(b, secret) <= {401, 404, 503}


@pytest.mark.parametrize("namespace", ["corp.test", "docker.io"])
async def test_another_repository_that_names_it_is_lent_nothing(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage, namespace: str
) -> None:
    """Whoever may push to the registry can name any digest there."""
    evil = corporate if namespace == "corp.test" else registry
    bait = evil.push("evil/x", make_image("bait", (1000,)))
    document = json.loads(bait.manifest.data)
    document["layers"].append(secret.layers[0].described)
    evil.put_manifest("evil/x", json.dumps(document).encode(), OCI_MANIFEST, "v1")
    async with (
        member(tmp_path / "a", registry, corporate) as a,
        member(tmp_path / "b", registry, corporate, a) as b,
    ):
        await pull(a, NAME, secret, None)
        await told(b, secret)
        for node in (a, b):
            assert (await node.manifest("v1", "evil/x", namespace)).status == 200
            for digest in (secret.layers[0].digest, secret.manifest.digest):
                for answer in (
                    await node.blob(digest, "evil/x", namespace),
                    await node.manifest(digest, "evil/x", namespace),
                ):
                    assert answer.status == 404 and len(answer.data) < 500
        for digest in (secret.layers[0].digest, secret.manifest.digest):
            mounting = f"/v2/team/app/blobs/uploads/?mount={digest}&from={NAME}"
            assert (await b.get(mounting, "POST")).status == 202
            assert (await b.get(f"/v2/team/app/blobs/{digest}")).status == 404


async def test_once_it_is_shared_no_more_nobody_has_it_from_there(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with member(tmp_path / "b", registry, corporate) as b:
        async with member(tmp_path / "a", registry, corporate, b) as a:
            await pull(a, NAME, secret, None)
            await told(b, secret)
        async with member(tmp_path / "a", registry, corporate, b, share=None, at=a.mesh) as a:
            later = registry.push("library/app", make_image("public", (1000,)), "v1")
            await pull(a, "docker.io/library/app", later, None)
            await until(lambda: b.cluster.holders(later.layers[0].digest))
            assert not any(b.cluster.holders(each.digest, (REPOSITORY,)) for each in blobs_of(secret))
            assert b.cluster.tag(REPOSITORY, Tag("v1"), 1e12) is None
            await pull(a, NAME, secret, None)
            await corporate.stop()
            assert await refusals(b, secret) <= {404, 503}


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


async def test_who_shares_no_more_serves_only_what_the_registry_itself_gave_him(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    async with member(tmp_path / "a", registry, corporate) as a:
        async with member(tmp_path / "b", registry, corporate, a) as b:
            await pull(a, NAME, secret, None)
            await told(b, secret)
            await pull(b, NAME, secret, None)
        async with member(tmp_path / "b", registry, corporate, a, share=None, login=False) as b:
            assert await refusals(b, secret) <= {404, 503}
            await corporate.stop()
            assert await refusals(b, secret) <= {404, 503}
            await corporate.start_again()
        async with member(tmp_path / "b", registry, corporate, a, share=None) as b:
            await pull(b, NAME, secret, None)
            await corporate.stop()
            await pull(b, NAME, secret, None)


async def test_a_member_that_lends_other_bytes_is_found_out_and_the_registry_gives_the_right_ones(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    small = secret.layers[1]
    liar = FakePeer(secret=SECRET, certificate=await asyncio.to_thread(make_certificate))
    liar.lend(b"x" * small.size, REPOSITORY.namespace, REPOSITORY.name, small.digest)
    async with fake_peer(liar), member(tmp_path / "a", registry, corporate, liar) as a:
        await until(lambda: a.cluster.holders(small.digest, (REPOSITORY,)))
        await pull(a, NAME, secret, None)
        (status,) = a.cluster.peers()
        assert liar.bodies and "which it is not" in (status.set_aside or "")


@pytest.mark.parametrize(
    "line",
    [
        ["shared", 1, "corp.test", "NO", str(Digest.of(b"x")), Cid.of(b"x").raw, 1],
        ["shared", 1, "corp.test", "team/x", str(Digest.of(b"x")), b"no cid", 1],
        ["shared-tag", 1, "corp.test", "team/x", "..", str(Digest.of(b"x")), "m", 1.0, 1],
    ],
)
async def test_a_member_that_shares_what_cannot_be_is_set_aside(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, line: list[object]
) -> None:
    liar = FakePeer(secret=SECRET, certificate=await asyncio.to_thread(make_certificate))
    liar.say(line)
    async with fake_peer(liar), member(tmp_path / "a", registry, corporate, liar) as a:
        await until(lambda: any(peer.set_aside for peer in a.cluster.peers()))


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


async def test_a_file_that_names_what_members_share_does_not_open_it(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    """To name is not to have: such a file would show it to whoever may see what the file brings."""
    staged, layer = Repository(OWN, RESTORED), secret.layers[0]
    async with member(tmp_path / "a", registry, corporate) as node:
        assert (await node.get(f"/v2/{NAME}/manifests/v1")).status == 200
        assert (await node.get(f"/v2/{NAME}/blobs/{layer.digest}")).data == layer.data
        await node.landed(layer.digest)
        holding = await node.store.find(layer.digest)
        assert holding is not None and holding.visibility is Visibility.SHARED
        for blob in (secret.manifest, secret.config, *secret.layers[1:]):
            await node.store.put(blob.digest, blob.data, None, staged)
        named = Brought(Repository(OWN, "team/app"), Tag("v1"), secret.manifest.digest, secret.manifest.media_type)
        assert await node.registry.admitting.lacking({layer.digest: layer.size}) == [layer.digest]
        with pytest.raises(NotFoundError, match="not brought"):
            await node.registry.admitting.admit(named, Visibility.PUBLIC)
        assert (await node.get(f"/v2/team/app/blobs/{layer.digest}")).status == 404
