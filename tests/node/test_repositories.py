"""Links and tags: who names what, and what a proof passes on."""

import pytest

from node.catalog import Audience, TagChange, Visibility
from node.digest import Digest
from node.manifest import OCI_MANIFEST, Role
from node.reference import Tag
from node.repositories import Link, TagSeen
from node.store import Store
from node.visibility import Proof
from tests.node.contents import ALPINE, MEMBERS, PRIVATE, PUBLIC, SECRETS, Clock, image, index

LAYER = b"a layer"


async def link(store: Store, digest: Digest) -> Link:
    found = await store.repositories.link(ALPINE, digest)
    assert found is not None
    return found


async def test_a_recorded_manifest_links_itself_and_all_it_names(store: Store) -> None:
    manifest = image(LAYER)
    await store.repositories.record(ALPINE, manifest, PUBLIC)
    itself, layer = await link(store, manifest.digest), await link(store, Digest.of(LAYER))
    assert (itself.role, itself.media_type, itself.size) == (Role.MANIFEST, OCI_MANIFEST, len(manifest.data))
    assert (layer.size, layer.visibility) == (len(LAYER), Visibility.PUBLIC)
    assert await store.repositories.link(SECRETS, manifest.digest) is None


async def test_the_same_bytes_are_public_here_and_private_there(store: Store) -> None:
    await store.repositories.record(ALPINE, image(LAYER), PUBLIC)
    await store.repositories.record(SECRETS, image(LAYER), PRIVATE)
    secret = await store.repositories.link(SECRETS, Digest.of(LAYER))
    assert secret is not None
    assert secret.visibility is Visibility.PRIVATE
    assert (await link(store, Digest.of(LAYER))).visibility is Visibility.PUBLIC
    assert await store.repositories.repositories_of(Digest.of(LAYER)) == (SECRETS, ALPINE)


async def test_what_an_index_allows_is_inherited_by_what_its_manifests_name(store: Store) -> None:
    child = image(LAYER)
    await store.repositories.record(ALPINE, index(child), PUBLIC)
    await store.repositories.record(ALPINE, child, PRIVATE)
    assert (await link(store, Digest.of(LAYER))).visibility is Visibility.PUBLIC


async def test_a_manifest_passes_nothing_on_to_another_repository(store: Store) -> None:
    await store.repositories.record(ALPINE, image(LAYER), PUBLIC)
    await store.repositories.record(SECRETS, image(LAYER, b"more"), PRIVATE)
    more = await store.repositories.link(SECRETS, Digest.of(b"more"))
    assert more is not None
    assert more.visibility is Visibility.PRIVATE


@pytest.mark.parametrize("later", [PRIVATE, MEMBERS])
async def test_a_proof_is_not_taken_back_before_it_expires(store: Store, clock: Clock, later: Proof) -> None:
    await store.repositories.record(ALPINE, image(LAYER), Proof(Visibility.PUBLIC, clock.now + 10))
    await store.repositories.record(ALPINE, image(LAYER), later)
    assert (await link(store, Digest.of(LAYER))).visibility is Visibility.PUBLIC
    clock.now += 10
    assert (await link(store, Digest.of(LAYER))).visibility is later.visibility


async def test_what_an_index_says_of_a_manifest_does_not_replace_what_the_manifest_is(store: Store) -> None:
    child = image(LAYER)
    await store.repositories.record(ALPINE, child, PUBLIC)
    await store.repositories.record(ALPINE, index(child), PUBLIC)
    assert (await link(store, child.digest)).media_type == OCI_MANIFEST


async def test_the_newest_observation_of_a_tag_stays(store: Store) -> None:
    def seen(digest: Digest, at: float) -> TagSeen:
        return TagSeen(ALPINE, Tag("3"), digest, OCI_MANIFEST, at, 7)

    newer = seen(Digest.of(b"new"), 200.0)
    await store.repositories.see(newer)
    await store.repositories.see(seen(Digest.of(b"old"), 100.0))
    assert await store.repositories.seen(ALPINE, Tag("3")) == newer
    assert await store.repositories.seen(ALPINE, Tag("4")) is None


BROUGHT = TagSeen(ALPINE, Tag("3"), image(LAYER).digest, OCI_MANIFEST, 100.0, 0, lasting=True)


async def test_an_image_that_was_brought_is_linked_shown_and_tagged_at_once(store: Store) -> None:
    manifest = image(LAYER)
    for data in (LAYER, manifest.data):
        await store.put(Digest.of(data), data)
    await store.repositories.admit(ALPINE, [manifest], MEMBERS, BROUGHT)
    assert await store.repositories.seen(ALPINE, Tag("3")) == BROUGHT
    for data in (LAYER, manifest.data):
        holding = await store.find(Digest.of(data))
        assert holding is not None and holding.visibility is Visibility.MEMBERS
        assert (await link(store, Digest.of(data))).visibility is Visibility.MEMBERS
        assert await store.repositories.confirmed(ALPINE, Digest.of(data))
    told = [entry.seen for entry in (await store.changes(0, Audience.MEMBERS)).entries if isinstance(entry, TagChange)]
    assert told == [BROUGHT]


async def test_what_is_brought_counts_though_a_clock_was_ahead_before(store: Store) -> None:
    await store.repositories.see(TagSeen(ALPINE, Tag("3"), Digest.of(b"ahead"), OCI_MANIFEST, 1e9, 7))
    await store.repositories.admit(ALPINE, [image(LAYER)], MEMBERS, BROUGHT)
    assert await store.repositories.seen(ALPINE, Tag("3")) == BROUGHT


async def test_what_upstream_says_later_counts_instead_of_what_was_brought(store: Store) -> None:
    await store.repositories.admit(ALPINE, [image(LAYER)], MEMBERS, BROUGHT)
    said = TagSeen(ALPINE, Tag("3"), Digest.of(b"new"), OCI_MANIFEST, 160.0, 7)
    await store.repositories.see(said)
    assert await store.repositories.seen(ALPINE, Tag("3")) == said
