"""What is kept in memory: never older than what made it wrong, and enough to leave the database alone."""

import asyncio
from collections.abc import Callable

import pytest

from node.catalog import Visibility
from node.digest import Digest
from node.manifest import OCI_INDEX
from node.remembered import Remembered
from node.store import Store
from node.visibility import Proof
from tests.node.contents import ALPINE, MEMBERS, PRIVATE, PUBLIC, SECRETS, Clock, image

LAYER = b"a layer"
DIGEST = Digest.of(LAYER)


class Source:
    """Answers, and says how often it was asked; `meanwhile` happens while it thinks."""

    def __init__(self, answer: str | None, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.answer = answer
        self.asked = 0
        self._meanwhile = meanwhile

    async def __call__(self) -> str | None:
        self.asked += 1
        answer = self.answer
        await asyncio.sleep(0)
        self._meanwhile()
        return answer


async def no_database(*_: object) -> None:
    """In place of what asks the database."""
    pytest.fail("the database was asked")


async def test_an_answer_is_asked_for_once_also_that_there_is_nothing() -> None:
    answers: Remembered[str, str | None] = Remembered(10)
    for source in (Source("yes"), Source(None)):
        for _ in range(3):
            assert await answers.of(str(source.answer), source) == source.answer
        assert source.asked == 1


@pytest.mark.parametrize("change", ["learnt", "forgotten", "cleared"])
async def test_an_answer_that_was_true_before_a_change_is_not_remembered(change: str) -> None:
    answers: Remembered[str, str | None] = Remembered(10)
    changes: dict[str, Callable[[], None]] = {
        "learnt": lambda: answers.learn({"key": "new"}),
        "forgotten": lambda: answers.forget(["key"]),
        "cleared": answers.clear,
    }
    await answers.of("key", Source("old", meanwhile=changes[change]))
    now = Source("new")
    assert await answers.of("key", now) == "new"
    assert now.asked == (0 if change == "learnt" else 1)


async def test_the_answer_used_longest_ago_makes_room() -> None:
    answers: Remembered[str, str | None] = Remembered(2)
    answers.learn({"a": "1", "b": "2"})
    await answers.of("a", Source("?"))
    answers.learn({"c": "3"})
    gone = Source("again")
    assert [await answers.of(key, gone) for key in "acb"] == ["1", "3", "again"]


async def test_a_layer_behind_its_manifest_needs_no_database(store: Store) -> None:
    await store.repositories.record(ALPINE, image(LAYER), PUBLIC)
    assert await store.missing([DIGEST]) == {DIGEST}
    store._catalog._read_entries = no_database  # type: ignore[assignment,method-assign]
    store.repositories._read_link = no_database  # type: ignore[assignment,method-assign]
    link = await store.repositories.link(ALPINE, DIGEST)
    assert link is not None
    assert link.visibility is Visibility.PUBLIC
    assert await store.find(DIGEST) is None


async def test_what_is_missing_is_asked_for_at_once_and_only_once(store: Store) -> None:
    await store.put(DIGEST, LAYER)
    others = [Digest.of(bytes([number])) for number in range(3)]
    assert await store.missing([*others, DIGEST]) == set(others)
    store._catalog._read_entries = no_database  # type: ignore[assignment,method-assign]
    assert await store.missing([DIGEST, *others]) == set(others)
    assert await store.find(DIGEST) is not None


async def test_what_was_absent_is_found_once_it_came_and_not_once_it_went(store: Store) -> None:
    for _ in range(2):
        assert await store.find(DIGEST) is None
        await store.put(DIGEST, LAYER)
        assert await store.find(DIGEST) is not None
        await store.drop(DIGEST)
    assert await store.find(DIGEST) is None


async def test_a_link_that_was_missing_is_there_once_it_is_recorded(store: Store) -> None:
    assert await store.repositories.link(ALPINE, DIGEST) is None
    await store.repositories.record(SECRETS, image(LAYER), PRIVATE)
    assert await store.repositories.link(ALPINE, DIGEST) is None
    await store.repositories.record(ALPINE, image(LAYER), PUBLIC)
    assert await store.repositories.link(ALPINE, DIGEST) is not None


async def test_what_is_remembered_of_a_link_is_what_the_database_says(store: Store, clock: Clock) -> None:
    manifest = image(LAYER)
    proofs = [PRIVATE, MEMBERS, Proof(Visibility.PUBLIC, clock.now + 10), Proof(Visibility.PUBLIC, clock.now + 5)]
    for proof in proofs:
        await store.repositories.record(ALPINE, manifest, proof)
        for digest in (manifest.digest, DIGEST):
            learnt = await store.repositories.link(ALPINE, digest)
            store.repositories._links.clear()
            assert await store.repositories.link(ALPINE, digest) == learnt
            assert learnt is not None
            assert learnt.media_type != OCI_INDEX


async def test_a_remembered_link_shows_a_blob_no_longer_than_its_proof_lasts(store: Store, clock: Clock) -> None:
    await store.repositories.record(ALPINE, image(LAYER), Proof(Visibility.PUBLIC, clock.now + 10))
    for visibility in (Visibility.PUBLIC, Visibility.PRIVATE):
        link = await store.repositories.link(ALPINE, DIGEST)
        assert link is not None
        assert link.visibility is visibility
        clock.now += 10


async def test_nothing_is_remembered_of_a_database_that_was_set_aside(store: Store) -> None:
    await store.repositories.record(ALPINE, image(LAYER), PUBLIC)
    await store.put(DIGEST, LAYER)
    assert await store.repositories.link(ALPINE, DIGEST) is not None
    assert await store.repositories.link(SECRETS, DIGEST) is None
    await _set_aside(store)
    assert await store.repositories.link(ALPINE, DIGEST) is None
    await store.repositories.record(SECRETS, image(LAYER), PUBLIC)
    assert await store.repositories.link(SECRETS, DIGEST) is not None
    async with asyncio.timeout(20):
        await store.settled()
    assert await store.find(DIGEST) is not None


async def test_files_are_adopted_again_when_the_database_is_lost_meanwhile(store: Store) -> None:
    await store.put(DIGEST, LAYER)
    await store.settled()
    database = store._shelf.database
    noted = database.on_commit
    adopted = asyncio.Event()

    def noting(touched: set[bytes], logged: bool) -> None:
        noted(touched, logged)
        if touched:
            adopted.set()

    database.on_commit = noting
    await _set_aside(store)
    async with asyncio.timeout(20):
        await adopted.wait()
        await _set_aside(store)
        await store.settled()
    assert await store.find(DIGEST) is not None


async def _set_aside(store: Store) -> None:
    database = store._shelf.database
    await database._ask(lambda: database._renew(database.epoch))


async def test_a_record_whose_caller_was_cancelled_is_remembered_as_it_was_made(store: Store) -> None:
    assert await store.repositories.link(ALPINE, DIGEST) is None
    async with asyncio.TaskGroup() as group:
        record = group.create_task(store.repositories.record(ALPINE, image(LAYER), PUBLIC))
        await asyncio.sleep(0)
        record.cancel()
    await store._shelf.database.remember("behind", "it")
    assert await store.repositories.link(ALPINE, DIGEST) is not None


async def test_an_answer_from_before_a_change_is_not_given() -> None:
    """Else what has just come would count as missing, and be fetched a second time."""
    answers: Remembered[str, str | None] = Remembered(10)
    source = Source(None)

    def came() -> None:
        if source.asked == 1:
            source.answer = "here"
            answers.forget(["key"])

    source._meanwhile = came
    assert await answers.of("key", source) == "here"
    assert source.asked == 2
