"""Records of own repositories as members' are merged with one's own."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import FullError
from node.owned import Conflict
from node.records import Record
from node.reference import Tag
from node.store import Store, open_store
from tests.node.contents import Clock
from tests.node.owning import (
    APP,
    ONE,
    ORIGINS,
    THREE,
    TWO,
    V1,
    State,
    entered,
    meaning_of,
    push,
    records,
    state,
    tagged,
)


async def clear(store: Store) -> None:
    await store._shelf.database.write(lambda transaction: transaction.run("DELETE FROM records"))


@asynccontextmanager
async def stores(folder: Path, clock: Clock, names: str) -> AsyncIterator[list[Store]]:
    """A store for each letter."""
    if not names:
        yield []
        return
    async with open_store(folder / names[0], clock=clock) as first, stores(folder, clock, names[1:]) as rest:
        yield [first, *rest]


async def exchange(one: Store, other: Store) -> None:
    """Tell each other everything."""
    await other.owned.merge(await records(one))
    await one.owned.merge(await records(other))


async def test_two_nodes_that_tag_at_once_agree_and_both_show_the_conflict(tmp_path: Path, clock: Clock) -> None:
    async with stores(tmp_path, clock, "ab") as (a, b):
        for store, manifest in ((a, ONE), (b, TWO)):
            await push(store, manifest, V1)
            clock.now += 1
        mine, theirs = await records(a), await records(b)
        await a.owned.merge(theirs)
        await b.owned.merge(mine)
        for store in (a, b):
            found = await store.owned.tag(APP, V1)
            assert found is not None and found.digest == TWO.digest
            assert await store.owned.conflicts() == (Conflict(APP, "v1", TWO.digest, b.node_id, ONE.digest, a.node_id),)
        await push(a, THREE, V1)
        await exchange(a, b)
        assert await a.owned.conflicts() == await b.owned.conflicts() == ()


async def test_a_node_that_had_seen_the_others_tag_is_in_no_conflict(tmp_path: Path, clock: Clock) -> None:
    async with stores(tmp_path, clock, "ab") as (a, b):
        await push(a, ONE, V1)
        await exchange(a, b)
        await push(b, TWO, V1)
        await exchange(a, b)
        assert await a.owned.conflicts() == await b.owned.conflicts() == ()


async def test_two_nodes_that_push_the_same_at_once_are_in_no_conflict(tmp_path: Path, clock: Clock) -> None:
    async with stores(tmp_path, clock, "ab") as (a, b):
        for store in (a, b):
            await push(store, ONE, V1)
            clock.now += 1
        await exchange(a, b)
        assert await a.owned.conflicts() == await b.owned.conflicts() == ()


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Records about few things by three nodes; no two of one stamp and origin, as nodes write them."""
    found: dict[tuple[int, str], Record] = {}
    for stamp, origin in draw(st.sets(st.tuples(st.integers(1, 6), st.sampled_from(ORIGINS)), min_size=1, max_size=8)):
        manifest = draw(st.sampled_from([ONE, TWO, None]))
        base = draw(st.integers(0, stamp - 1))
        name = draw(st.sampled_from(["v1", "v2"]))
        if draw(st.booleans()):
            found[stamp, origin] = tagged(manifest, stamp, origin, base, name)
        else:
            found[stamp, origin] = entered(ONE, stamp, deleted=manifest is None)
    return list({(each.name, each.stamp, each.origin): each for each in found.values()}.values())


async def merged(store: Store, batches: Sequence[Sequence[Record]]) -> State:
    await clear(store)
    for batch in batches:
        await store.owned.merge(batch)
    return await state(store)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(history=histories(), order=st.randoms(use_true_random=False))
def test_any_order_of_any_records_ends_in_the_same_state(
    tmp_path: Path, history: list[Record], order: random.Random
) -> None:
    async def check() -> None:
        async with open_store(tmp_path / "data", clock=lambda: 0.0) as store:
            expected = await merged(store, [history])
            for _ in range(4):
                shuffled = order.sample(history, len(history))
                again = order.choices(history, k=3)  # what comes twice changes nothing
                cut = order.randrange(len(history) + 1)
                assert await merged(store, [shuffled[:cut], shuffled[cut:], again]) == expected

    asyncio.run(check())


async def test_of_three_nodes_that_tag_at_once_each_shows_the_same_two_in_every_order(store: Store) -> None:
    history = [tagged(ONE, 1, ORIGINS[0]), tagged(TWO, 2, ORIGINS[1]), tagged(THREE, 3, ORIGINS[2])]
    states = [await merged(store, [[each] for each in order]) for order in itertools.permutations(history)]
    assert all(each == states[0] for each in states)
    assert states[0][1] == {Conflict(APP, "v1", THREE.digest, ORIGINS[2], TWO.digest, ORIGINS[1])}


async def test_what_is_merged_again_is_no_news_to_anybody(store: Store) -> None:
    history = [tagged(ONE, 1, ORIGINS[0]), tagged(TWO, 2, ORIGINS[1])]
    await store.owned.merge(history)
    seq = store._shelf.database.seq
    assert await store.owned.merge(history) == 0
    assert store._shelf.database.seq == seq


async def test_one_member_makes_a_node_keep_so_many_records_and_no_more(store: Store) -> None:
    await push(store, THREE, Tag("own"))
    one, other = ORIGINS[:2]
    assert await store.owned.merge([tagged(ONE, 1, tag="a"), tagged(ONE, 2, tag="b")], one, 2) == 2
    before = await records(store)
    with pytest.raises(FullError, match="more than 2 records"):
        await store.owned.merge([tagged(TWO, 3, tag="a"), tagged(ONE, 4, tag="c")], one, 2)
    assert await records(store) == before
    assert await store.owned.merge([tagged(TWO, 3, tag="a")], one, 2) == 1  # which is no more than before
    assert await store.owned.merge([tagged(ONE, 4, tag="c")], other, 2) == 1
    await push(store, TWO, Tag("own"))
    assert await store.owned.tag(APP, Tag("own")) == meaning_of(TWO)


async def test_what_others_take_over_is_a_members_no_longer(store: Store) -> None:
    one, other = ORIGINS[:2]
    await store.owned.merge([tagged(ONE, 1, tag="a"), tagged(ONE, 2, tag="b")], one, 2)
    await store.owned.merge([tagged(TWO, 3, tag="b")], other, 2)
    await push(store, THREE, Tag("a"))
    assert await store.owned.merge([tagged(ONE, 5, tag="c"), tagged(ONE, 6, tag="d")], one, 2) == 2
