"""Keeping a Kubo in step with the store, whatever changes in either."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.digest import Algorithm, Digest
from node.errors import DeniedError
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import Kubo, Timings, open_kubo
from node.ipfs.publisher import COMPARE_EVERY_S, Publisher
from node.store import Store, open_store
from node.tasks import in_background
from node.visibility import Proof, Visibility
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.peer import dag_of
from tests.node.contents import MEMBERS, PRIVATE, PUBLIC, Clock, content

QUICK = Timings(look_every_s=0.05, look_again_s=0.05, look_s=0.5)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as kubo:
        yield kubo


@asynccontextmanager
async def publishing(
    store: Store, fake: FakeKubo, compare_every_s: float = COMPARE_EVERY_S
) -> AsyncIterator[tuple[Publisher, Kubo]]:
    """Keep the fake in step with the store."""
    async with open_kubo(store, Endpoint(fake.rpc), QUICK) as kubo:
        publisher = Publisher(store, kubo, first_pause_s=0.02, compare_every_s=compare_every_s)
        async with in_background(kubo.run()), in_background(publisher.run()):
            yield publisher, kubo


async def test_only_what_anybody_may_have_is_published(store: Store, fake: FakeKubo) -> None:
    for data, proof in ((b"public", PUBLIC), (b"members", MEMBERS), (b"private", PRIVATE)):
        await store.put(Digest.of(data), data, proof)
    async with publishing(store, fake) as (publisher, _):
        await until(lambda: publisher.in_step)
        assert fake.pinned.keys() == {dag_of(b"public").root} and publisher.offered == 1
        await store.put(Digest.of(b"later"), b"later", PUBLIC)
        await until(lambda: len(fake.pinned) == 2)


async def test_what_is_public_no_longer_is_unpinned(store: Store, fake: FakeKubo, clock: Clock) -> None:
    await store.put(Digest.of(b"for a day"), b"for a day", Proof(Visibility.PUBLIC, clock() + 100))
    async with publishing(store, fake) as (publisher, _):
        await until(lambda: fake.pinned)
        clock.now += 200
        await store.sweep()
        await until(lambda: not fake.pinned)
        assert (publisher.withdrawn, publisher.offered) == (1, 0)


async def test_bytes_with_two_digests_stay_while_one_of_them_is_held(store: Store, fake: FakeKubo) -> None:
    data = content(1000)
    for algorithm in Algorithm:
        await store.put(Digest.of(data, algorithm), data, PUBLIC)
    await store.put(Digest.of(b"another"), b"another", PUBLIC)
    async with publishing(store, fake) as (publisher, _):
        await until(lambda: publisher.in_step)
        await store.drop(Digest.of(data, Algorithm.SHA256))
        await store.drop(Digest.of(b"another"))
        await until(lambda: publisher.withdrawn == 1)
        assert fake.pinned.keys() == {dag_of(data).root}
        await store.drop(Digest.of(data, Algorithm.SHA512))
        await until(lambda: not fake.pinned)


async def test_pins_that_another_node_or_a_person_made_are_not_looked_at(store: Store, fake: FakeKubo) -> None:
    names = ("", "mine", f"layermesh/{'f' * 32}/{Digest.of(b'theirs')}", f"layermesh/{store.node_id}/by hand")
    pinned = {fake.keep(name.encode(), name) for name in names}
    left = fake.keep(b"left over", f"layermesh/{store.node_id}/{Digest.of(b'left over')}")
    async with publishing(store, fake) as (publisher, _):
        await until(lambda: publisher.in_step)
        assert left not in fake.pinned and fake.pinned.keys() == pinned


async def test_what_another_node_on_the_same_daemon_unpinned_is_pinned_anew_at_the_next_comparison(
    store: Store, fake: FakeKubo, tmp_path: Path
) -> None:
    digest, root = Digest.of(b"of both"), dag_of(b"of both").root
    await store.put(digest, b"of both", PUBLIC)
    async with open_store(tmp_path / "second") as second, publishing(store, fake) as (first_publisher, _):
        await until(lambda: first_publisher.in_step)
        await second.put(digest, b"of both", PUBLIC)
        async with publishing(second, fake) as (publisher, _):
            await until(lambda: publisher.in_step)
            assert fake.pinned[root].startswith(f"layermesh/{store.node_id}/")  # which the second relies on
            await store.drop(digest)
            await until(lambda: first_publisher.withdrawn == 1)
            assert root not in fake.pinned  # for an hour at most, in which the second still has it itself
        async with publishing(second, fake, compare_every_s=0.05) as (publisher, _):
            await until(lambda: root in fake.pinned)
            await until(lambda: publisher.in_step)
            del fake.pinned[root]
            await until(lambda: root in fake.pinned)
            assert fake.pinned[root] == f"layermesh/{second.node_id}/{digest}"


async def test_a_daemon_that_lost_its_pins_is_given_them_again_when_it_comes_back(store: Store, fake: FakeKubo) -> None:
    await store.put(Digest.of(b"public"), b"public", PUBLIC)
    async with publishing(store, fake) as (publisher, kubo):
        await until(lambda: publisher.in_step)
        fake.faults.frozen = True
        await until(lambda: not kubo.usable)
        fake.pinned.clear()
        await until(lambda: not publisher.in_step)
        fake.faults.frozen = False
        fake.released.set()
        await until(lambda: fake.pinned)
        await until(lambda: publisher.in_step)


async def test_one_blob_that_fails_keeps_no_other_from_being_published(store: Store, fake: FakeKubo) -> None:
    fake.faults.cut_upload = True  # only a blob of more than two leaves is cut
    big = content((2 << 20) + 5)
    await store.put(Digest.of(big), big, PUBLIC)
    await store.put(Digest.of(b"small"), b"small", PUBLIC)
    async with publishing(store, fake) as (publisher, _):
        await until(lambda: publisher.in_step)
        assert fake.pinned.keys() == {dag_of(b"small").root}
        assert "is not published" in str(publisher.trouble)


@pytest.mark.parametrize("proof", [MEMBERS, PRIVATE])
async def test_the_swarm_is_not_asked_by_hand_for_what_is_not_public(
    store: Store, fake: FakeKubo, proof: Proof
) -> None:
    data = content((1 << 20) + 1)
    holding = await store.put(Digest.of(data), data, proof)
    async with publishing(store, fake) as (publisher, kubo):
        await until(lambda: publisher.in_step)
        fake.asked.clear()
        for cid in (holding.cid, dag_of(data).leaf(0).cid):
            with pytest.raises(DeniedError, match="anybody may have"):
                await kubo.pin(cid)
        assert "pin/add" not in fake.asked and not fake.pinned
