"""The change log: what each audience is told, what it never hears of, and how proofs end."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.catalog import Audience, Change, LogEntry, TagChange, Visibility
from node.digest import Digest
from node.manifest import OCI_MANIFEST
from node.reference import Repository, Tag
from node.repositories import TagSeen
from node.store import Store, open_store
from node.visibility import Proof
from tests.node.contents import ALPINE, MEMBERS, PRIVATE, PUBLIC, SECRETS, Clock, image

DATA = b"some layer"
DIGEST = Digest.of(DATA)


async def told(store: Store, audience: Audience, since: int = 0) -> list[tuple[Digest, Visibility | None]]:
    entries = (await store.changes(since, audience)).entries
    return [
        (each.digest, each.holding.visibility if each.holding else None) for each in entries if isinstance(each, Change)
    ]


async def tags(store: Store, audience: Audience) -> list[TagSeen]:
    entries = (await store.changes(0, audience)).entries
    return [each.seen for each in entries if isinstance(each, TagChange)]


async def test_a_public_blob_is_told_to_everyone(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    for audience in Audience:
        assert await told(store, audience) == [(DIGEST, Visibility.PUBLIC)]


async def test_a_members_blob_is_told_to_members_only(store: Store) -> None:
    await store.put(DIGEST, DATA, MEMBERS)
    assert await told(store, Audience.MEMBERS) == [(DIGEST, Visibility.MEMBERS)]
    await store.drop(DIGEST)
    assert await told(store, Audience.MEMBERS) == [(DIGEST, None)]
    assert await told(store, Audience.PUBLIC) == []


async def test_a_private_blob_never_shows_up_not_even_as_a_drop(store: Store) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    await store.drop(DIGEST)
    for audience in Audience:
        page = await store.changes(0, audience)
        assert (page.entries, page.upto) == ((), 0)


async def test_a_new_entry_replaces_the_old_one_of_its_digest(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    first = (await store.changes(0, Audience.PUBLIC)).upto
    await store.drop(DIGEST)
    await store.put(DIGEST, DATA, PUBLIC)
    page = await store.changes(0, Audience.PUBLIC)
    assert [each.seq for each in page.entries] == [page.upto]
    assert page.upto > first


async def test_who_is_up_to_date_is_told_only_what_is_new(store: Store) -> None:
    await store.put(DIGEST, DATA, PUBLIC)
    since = (await store.changes(0, Audience.PUBLIC)).upto
    await store.put(Digest.of(b"next"), b"next", PUBLIC)
    assert await told(store, Audience.PUBLIC, since) == [(Digest.of(b"next"), Visibility.PUBLIC)]


async def test_the_log_comes_in_pages(store: Store) -> None:
    for at in range(5):
        await store.put(Digest.of(bytes([at])), bytes([at]), PUBLIC)
    seen, since, more = [], 0, True
    while more:
        page = await store.changes(since, Audience.PUBLIC, limit=2)
        seen += [each.seq for each in page.entries]
        assert len(page.entries) <= 2
        since, more = page.upto, page.more
    assert seen == sorted(seen)
    assert len(seen) == 5


async def test_a_blob_that_becomes_public_is_told_then(store: Store) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    await store.repositories.show(ALPINE, DIGEST, PUBLIC)
    assert await told(store, Audience.PUBLIC) == [(DIGEST, Visibility.PUBLIC)]
    holding = await store.find(DIGEST)
    assert holding is not None
    assert holding.visibility is Visibility.PUBLIC


async def test_a_private_blob_that_a_public_manifest_names_stays_private_until_it_is_shown(store: Store) -> None:
    await store.put(DIGEST, DATA, PRIVATE)
    withheld = await store.repositories.record(ALPINE, image(DATA), PUBLIC)
    assert {each.digest for each in withheld} == {DIGEST}
    assert await told(store, Audience.PUBLIC) == []


async def test_an_expired_proof_is_private_at_once_and_a_drop_after_the_sweep(store: Store, clock: Clock) -> None:
    await store.repositories.record(ALPINE, image(DATA), Proof(Visibility.PUBLIC, clock.now + 60))
    holding = await store.put(DIGEST, DATA, repository=ALPINE)
    assert holding.visibility is Visibility.PUBLIC
    since = (await store.changes(0, Audience.PUBLIC)).upto
    clock.now += 60
    held = await store.find(DIGEST)
    assert held is not None
    assert held.visibility is Visibility.PRIVATE
    assert (await store.block(holding.cid)).visibility is Visibility.PRIVATE
    assert await told(store, Audience.PUBLIC) == [(DIGEST, None)]
    assert await told(store, Audience.PUBLIC, since) == []
    await store.sweep()
    assert await told(store, Audience.PUBLIC, since) == [(DIGEST, None)]


async def test_a_proof_that_is_renewed_in_time_changes_nothing(store: Store, clock: Clock) -> None:
    await store.repositories.record(ALPINE, image(DATA), Proof(Visibility.PUBLIC, clock.now + 60))
    await store.put(DIGEST, DATA, repository=ALPINE)
    since = (await store.changes(0, Audience.PUBLIC)).upto
    clock.now += 50
    await store.repositories.record(ALPINE, image(DATA), Proof(Visibility.PUBLIC, clock.now + 60))
    clock.now += 50
    await store.sweep()
    assert await told(store, Audience.PUBLIC, since) == []
    assert await told(store, Audience.PUBLIC) == [(DIGEST, Visibility.PUBLIC)]


async def test_who_waits_is_woken_by_the_next_entry(store: Store) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(store.wait_changes(0))
        await store.put(Digest.of(b"private"), b"private", PRIVATE)
        assert not waiting.done()
        await store.put(DIGEST, DATA, PUBLIC)


def seen(repository: Repository, digest: Digest, at: float, tag: str = "latest") -> TagSeen:
    return TagSeen(repository, Tag(tag), digest, OCI_MANIFEST, at, 100)


async def test_a_tag_of_a_repository_that_may_be_seen_is_told_to_members(store: Store, clock: Clock) -> None:
    manifest = image(DATA)
    await store.repositories.record(ALPINE, manifest, PUBLIC)
    observed = seen(ALPINE, manifest.digest, clock.now)
    await store.repositories.see(observed)
    assert await tags(store, Audience.MEMBERS) == [observed]
    assert await tags(store, Audience.PUBLIC) == []
    assert await store.repositories.seen(ALPINE, Tag("latest")) == observed


async def test_a_tag_of_a_private_repository_is_told_to_nobody(store: Store, clock: Clock) -> None:
    manifest = image(DATA)
    await store.repositories.record(SECRETS, manifest, PRIVATE)
    await store.repositories.see(seen(SECRETS, manifest.digest, clock.now))
    page = await store.changes(0, Audience.MEMBERS)
    assert (page.entries, page.upto) == ((), 0)


async def test_a_tag_seen_before_its_manifest_is_told_when_that_is_proved(store: Store, clock: Clock) -> None:
    manifest = image(DATA)
    observed = seen(ALPINE, manifest.digest, clock.now)
    await store.repositories.see(observed)
    assert await tags(store, Audience.MEMBERS) == []
    await store.repositories.record(ALPINE, manifest, PUBLIC)
    assert await tags(store, Audience.MEMBERS) == [observed]


async def test_a_tag_that_is_looked_at_again_and_again_is_not_told_each_time(store: Store, clock: Clock) -> None:
    manifest = image(DATA)
    await store.repositories.record(ALPINE, manifest, PUBLIC)
    for _ in range(3):
        await store.repositories.see(seen(ALPINE, manifest.digest, clock.now))
        clock.now += 1
    before = (await store.changes(0, Audience.MEMBERS)).upto
    await store.repositories.see(seen(ALPINE, manifest.digest, clock.now + 60))
    assert (await store.changes(0, Audience.MEMBERS)).upto == before + 1


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["public", "members", "private", "drop", "expire"])), max_size=15
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(steps=STEPS)
def test_who_follows_page_by_page_ends_with_what_may_be_seen(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("store")

    async def scene() -> None:
        clock = Clock()
        mirrors: dict[Audience, dict[Digest, Visibility]] = {audience: {} for audience in Audience}
        cursors = dict.fromkeys(Audience, 0)
        ever: dict[Audience, set[Digest]] = {audience: set() for audience in Audience}
        async with open_store(folder, clock=clock) as store:
            for at, step in steps:
                await act(store, clock, bytes([at]), step)
                for audience in Audience:
                    page = await store.changes(cursors[audience], audience, limit=1)
                    take(mirrors[audience], page.entries)
                    cursors[audience] = page.upto
                    ever[audience] |= {digest for digest, _ in await told(store, audience)}
            for audience in Audience:
                take(mirrors[audience], (await store.changes(cursors[audience], audience)).entries)
                now = {digest: seen for digest, seen in await told(store, audience) if seen is not None}
                assert mirrors[audience] == now
            shown = {Digest.of(bytes([at])) for at, step in steps if step == "public"}
            assert ever[Audience.PUBLIC] <= shown

    asyncio.run(scene())


async def act(store: Store, clock: Clock, data: bytes, step: str) -> None:
    if step == "drop":
        await store.drop(Digest.of(data))
    elif step == "expire":
        clock.now += 100
        await store.sweep()
    else:
        await store.put(Digest.of(data), data, Proof(Visibility(step), clock.now + 100))


def take(mirror: dict[Digest, Visibility], entries: Sequence[LogEntry]) -> None:
    for each in entries:
        if isinstance(each, Change):
            mirror.pop(each.digest, None)
            if each.holding is not None:
                mirror[each.digest] = each.holding.visibility
