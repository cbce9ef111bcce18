"""What members are told of private content that is shared with them: each blob as content of its repositories."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from node.catalog import Audience, LogEntry, SharedChange, TagChange, Visibility
from node.digest import Digest
from node.manifest import OCI_MANIFEST, Manifest
from node.reference import Repository, Tag
from node.repositories import TagSeen
from node.source import Wanted
from node.store import Store, open_store
from node.visibility import Proof
from tests.node.contents import ALPINE, PRIVATE, PUBLIC, SECRETS, Clock, image

LAYER = b"a private layer"
DIGEST = Digest.of(LAYER)
IMAGE = image(LAYER)
OTHER = Repository("corp.test", "others")
LENT = Proof(Visibility.SHARED)
Opening = Callable[..., AbstractAsyncContextManager[Store]]


@pytest.fixture
def opening(tmp_path: Path, clock: Clock) -> Opening:
    return lambda *shared: open_store(tmp_path / "data", shared=shared, clock=clock)


@pytest.fixture
async def store(opening: Opening) -> AsyncIterator[Store]:
    """One that shares what came from corp.test."""
    async with opening("corp.test") as opened:
        yield opened


async def fetched(store: Store, repository: Repository = SECRETS, proof: Proof = PRIVATE) -> Manifest:
    """A repository gave the image."""
    at_most = Visibility.SHARED if proof is LENT else Visibility.PUBLIC
    await store.put(IMAGE.digest, IMAGE.data)
    await store.repositories.record(repository, IMAGE, proof)
    async with store.ingest(Wanted(repository, DIGEST, len(LAYER))) as ingest:
        await ingest.write(0, LAYER)
        await ingest.commit(at_most=at_most)
    return IMAGE


async def told(store: Store, since: int = 0) -> dict[tuple[Repository, Digest], bool]:
    entries = (await store.changes(since, Audience.SHARING)).entries
    shared = [each for each in entries if isinstance(each, SharedChange)]
    return {(each.repository, each.digest): each.holding is not None for each in shared}


async def test_what_a_repository_gave_is_told_with_its_name_and_to_members_over_tls_alone(store: Store) -> None:
    await fetched(store)
    assert await told(store) == {(SECRETS, IMAGE.digest): True, (SECRETS, DIGEST): True}
    for audience in (Audience.PUBLIC, Audience.MEMBERS):
        assert (await store.changes(0, audience)).entries == ()
    holding = await store.find(DIGEST)
    assert holding is not None and holding.visibility is Visibility.SHARED and holding.visibility.hidden
    assert await store.missing([DIGEST]) == set()
    assert await store.missing([DIGEST], shown=True) == {DIGEST}


async def test_what_a_repository_only_names_is_not_told(store: Store) -> None:
    await fetched(store, ALPINE)
    await store.put(IMAGE.digest, IMAGE.data)
    await store.repositories.record(SECRETS, IMAGE, PRIVATE)
    assert await told(store) == {(SECRETS, IMAGE.digest): True}
    holding = await store.find(DIGEST)
    assert holding is not None and holding.visibility is Visibility.PRIVATE


async def test_of_two_repositories_that_gave_it_each_is_told(store: Store) -> None:
    await fetched(store)
    since = (await store.changes(0, Audience.SHARING)).upto
    await fetched(store, OTHER)
    assert await told(store, since) == {(OTHER, IMAGE.digest): True, (OTHER, DIGEST): True}


async def test_a_blob_that_is_dropped_is_withdrawn_and_told_again_when_it_comes_back(store: Store) -> None:
    await fetched(store)
    since = (await store.changes(0, Audience.SHARING)).upto
    await store.drop(DIGEST)
    assert await told(store, since) == {(SECRETS, DIGEST): False}
    await fetched(store)
    assert await told(store) == {(SECRETS, IMAGE.digest): True, (SECRETS, DIGEST): True}


async def test_what_is_public_is_told_to_everybody_as_well(store: Store) -> None:
    await fetched(store, SECRETS, PUBLIC)
    holding = await store.find(DIGEST)
    assert holding is not None and holding.visibility is Visibility.PUBLIC
    assert (SECRETS, DIGEST) in await told(store)
    assert len((await store.changes(0, Audience.PUBLIC)).entries) == 2


@pytest.mark.parametrize("shares", [True, False])
async def test_a_tag_is_told_where_its_manifest_is_shared(opening: Opening, clock: Clock, shares: bool) -> None:
    async with opening("corp.test") if shares else opening() as store:
        await fetched(store)
        await store.repositories.see(TagSeen(SECRETS, Tag("v1"), IMAGE.digest, OCI_MANIFEST, clock.now, 100))
        for audience in Audience:
            entries = (await store.changes(0, audience)).entries
            tags = [each for each in entries if isinstance(each, TagChange)]
            assert bool(tags) == (shares and audience is Audience.SHARING)
            assert all(each.shared for each in tags)


async def test_another_choice_makes_another_log(opening: Opening, clock: Clock) -> None:
    ids: list[str] = []
    for shared, expected in (((), 0), (("corp.test",), 3), (("corp.test",), 3), (("a.b", "corp.test"), 3), ((), 0)):
        async with opening(*shared) as store:
            if not ids:
                await fetched(store)
                await store.repositories.see(TagSeen(SECRETS, Tag("v1"), IMAGE.digest, OCI_MANIFEST, clock.now, 100))
            assert len((await store.changes(0, Audience.SHARING)).entries) == expected
            holding = await store.find(DIGEST)
            assert holding is not None
            assert holding.visibility is (Visibility.SHARED if expected else Visibility.PRIVATE)
            ids.append(store.log_id)
    assert ids[1] == ids[2] and len(set(ids)) == 4


async def test_what_members_lent_counts_for_nothing_once_it_is_shared_no_more(opening: Opening) -> None:
    async with opening("corp.test") as store:
        await fetched(store, SECRETS, LENT)
        await fetched(store, OTHER)
        assert len(await told(store)) == 4  # it is lent on
        assert await store.repositories.confirmed(SECRETS, DIGEST)
    async with opening() as store:
        assert not await store.repositories.confirmed(SECRETS, DIGEST)
        assert not await store.repositories.confirmed(SECRETS, IMAGE.digest)
        assert await store.repositories.confirmed(OTHER, DIGEST)
        assert await store.repositories.confirmed(OTHER, IMAGE.digest)


async def test_what_was_lent_and_then_given_by_the_registry_stays(opening: Opening) -> None:
    async with opening("corp.test") as store:
        for proof in (LENT, PRIVATE, LENT):
            await fetched(store, SECRETS, proof)
    async with opening() as store:
        assert await store.repositories.confirmed(SECRETS, DIGEST)
        assert await store.repositories.confirmed(SECRETS, IMAGE.digest)


async def test_a_catalog_that_begins_anew_shares_nothing_until_it_is_fetched_again(store: Store) -> None:
    await fetched(store)
    database = store._shelf.database
    await database._ask(lambda: database._renew(database.epoch))
    await store.settled()
    assert await told(store) == {}
    await fetched(store)
    assert len(await told(store)) == 2


async def test_pages_of_the_log_hold_all_of_it(store: Store, clock: Clock) -> None:
    await fetched(store)
    await fetched(store, OTHER)
    await store.repositories.see(TagSeen(SECRETS, Tag("v1"), IMAGE.digest, OCI_MANIFEST, clock.now, 100))
    seen: list[LogEntry] = []
    since, more = 0, True
    while more:
        page = await store.changes(since, Audience.SHARING, limit=2)
        seen += page.entries
        since, more = page.upto, page.more
    assert seen == list((await store.changes(0, Audience.SHARING)).entries) and len(seen) == 5
