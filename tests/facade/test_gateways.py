"""IPFS gateways as sources: who has a file is heard in a moment, and who misbehaves is set aside."""

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from yarl import URL

from cluster.config import Timings
from facade.gateways import FOUND_S, Gateways, open_gateways
from facade.sources import NetworkFile, NetworkName
from node.cid import Cid
from node.digest import Digest
from node.errors import LayermeshError, NotFoundError, UnreachableError
from node.unixfs import LEAF_BYTES
from tests.cluster.memory import MemorySink
from tests.facade.machine import until
from tests.fakes.gateway import FakeGateway, fake_gateway
from tests.fakes.peer import dag_of

DATA = random.Random(9).randbytes(9 * LEAF_BYTES + 77)
ROOT = dag_of(DATA).root
QUICK = Timings(stall_s=0.3, leaf_s=0.6, hedge_s=0.2, set_aside_s=30.0)


async def opened(
    stack: AsyncExitStack, *fakes: FakeGateway, more: Sequence[URL] = (), timings: Timings = QUICK
) -> Gateways:
    for fake in fakes:
        await stack.enter_async_context(fake_gateway(fake))
    urls = [*(fake.url for fake in fakes), *more]
    return await stack.enter_async_context(open_gateways(urls, timings=timings))


async def fetched(gateways: Gateways, data: bytes = DATA) -> bytes:
    sink = MemorySink()
    file = NetworkFile(dag_of(data).root, len(data), here=False, network=NetworkName.GATEWAYS)
    await gateways.fetch(file, Digest.of(data), sink)
    return bytes(sink.data)


def holding(**faults: object) -> FakeGateway:
    fake = replace(FakeGateway(), **faults)  # type: ignore[arg-type]
    fake.hold(DATA)
    return fake


async def test_a_file_comes_block_by_block_from_all_that_have_it() -> None:
    async with AsyncExitStack() as stack:
        fakes = holding(), holding(), FakeGateway()
        gateways = await opened(stack, *fakes)
        assert await fetched(gateways) == DATA
        assert {method for method, _ in fakes[2].asked} == {"HEAD"}
        for fake in fakes[:2]:
            assert sum(method == "GET" for method, _ in fake.asked) > 1
            assert {each.get("Accept") for each in fake.headers} == {"application/vnd.ipld.raw"}
            assert {each.get("Cache-Control") for each in fake.headers} == {"only-if-cached"}
        assert sum(each.received_bytes for each in gateways.status()) >= len(DATA)
        assert [each.set_aside for each in gateways.status()] == [None, None, None]


async def test_a_file_of_one_block_and_an_empty_one_come_as_well() -> None:
    async with AsyncExitStack() as stack:
        fake = FakeGateway()
        gateways = await opened(stack, fake)
        for data in (b"small", b""):
            fake.hold(data)
            assert await fetched(gateways, data) == data
        assert await gateways.block(Cid.of(b"small")) == b"small"
        assert await gateways.block(Cid.of(b"absent")) is None


async def test_what_nobody_has_is_known_in_a_moment_and_who_owes_an_answer_is_not_waited_for() -> None:
    async with AsyncExitStack() as stack:
        silent = FakeGateway(silent=True)
        gateways = await opened(stack, FakeGateway(), silent)
        for _ in range(3):
            with pytest.raises(NotFoundError):
                await fetched(gateways)
        assert len(silent.asked) == 1


async def test_a_gateway_that_never_answers_is_set_aside() -> None:
    async with AsyncExitStack() as stack:
        silent, good = FakeGateway(silent=True), holding()
        gateways = await opened(stack, silent, good)
        assert await fetched(gateways) == DATA
        await until(lambda: gateways.status()[0].set_aside)
        asked = len(silent.asked)
        assert await fetched(gateways) == DATA
        assert len(silent.asked) == asked


async def test_one_that_answers_late_is_not_waited_for_but_told_of() -> None:
    async with AsyncExitStack() as stack:
        gateways = await opened(stack, holding(late_s=FOUND_S + 0.75), timings=replace(QUICK, stall_s=3.0))
        with pytest.raises(NotFoundError):
            await fetched(gateways)
        await until(lambda: gateways.status()[0].set_aside)
        assert "took longer" in (gateways.status()[0].set_aside or "")


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ({"lies": True}, "hash to something else"),
        ({"stalls": True}, "in time"),
        ({"html": True}, "a web page came"),
        ({"status": 500}, "answered 500"),
        ({"status": 301}, "answered 301"),
        ({"status": 429}, "answered 429"),
    ],
)
async def test_one_that_misbehaves_is_set_aside_with_the_reason_and_others_do_its_work(
    faults: dict[str, object], why: str
) -> None:
    async with AsyncExitStack() as stack:
        bad, good = holding(**faults), holding()
        gateways = await opened(stack, bad, good)
        assert await fetched(gateways) == DATA
        assert why in (gateways.status()[0].set_aside or "")
        assert gateways.status()[1].set_aside is None


@pytest.mark.parametrize("faults", [{"lies": True}, {"stalls": True}, {"html": True}, {"status": 503}])
async def test_with_nobody_else_it_fails_and_says_so(faults: dict[str, object]) -> None:
    async with AsyncExitStack() as stack:
        gateways = await opened(stack, holding(**faults))
        with pytest.raises(LayermeshError):
            await fetched(gateways)
        assert gateways.status()[0].set_aside
        with pytest.raises(NotFoundError):
            await fetched(gateways)


async def test_one_that_claims_what_it_has_not_is_asked_once() -> None:
    async with AsyncExitStack() as stack:
        fake = FakeGateway(claims=True)
        gateways = await opened(stack, fake)
        with pytest.raises(NotFoundError):
            await fetched(gateways)
        assert fake.asked == [("HEAD", str(ROOT)), ("GET", str(ROOT))]


async def test_one_that_lacks_a_block_of_it_is_asked_again_another_time() -> None:
    async with AsyncExitStack() as stack:
        partial, good = holding(), holding()
        partial.lose(DATA[3 * LEAF_BYTES : 4 * LEAF_BYTES])
        gateways = await opened(stack, partial)
        with pytest.raises(NotFoundError):
            await fetched(gateways)
        assert gateways.status()[0].set_aside is None
        both = await opened(stack, partial_again := holding(), good)
        partial_again.lose(DATA[:LEAF_BYTES])
        assert await fetched(both) == DATA


async def test_one_that_is_not_there_is_set_aside_at_once() -> None:
    async with AsyncExitStack() as stack:
        gateways = await opened(stack, more=[URL("http://127.0.0.1:9")])
        with pytest.raises((NotFoundError, UnreachableError)):
            await fetched(gateways)
        await until(lambda: gateways.status()[0].set_aside)


async def test_without_any_nothing_is_waited_for() -> None:
    async with AsyncExitStack() as stack:
        gateways = await opened(stack)
        with pytest.raises(NotFoundError):
            await fetched(gateways)
        assert gateways.status() == ()
