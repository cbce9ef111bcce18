"""Where sharing between members ends: who hears nothing of it, is lent nothing, and has it no more."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.tls import make_certificate
from facade.registry.admitting import Brought
from facade.upstream.config import Access
from node.cid import Cid
from node.digest import Digest
from node.errors import NotFoundError
from node.manifest import OCI_MANIFEST
from node.records import RESTORED
from node.reference import OWN, Repository, Tag
from node.visibility import Audience, Visibility
from tests.facade.logins import basic, pull
from tests.facade.machine import until
from tests.facade.sharing import (
    ALICE,
    MALLORY,
    NAME,
    PASSTHROUGH,
    REPOSITORY,
    SECRET,
    blobs_of,
    member,
    met,
    refusals,
    told,
)
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
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
