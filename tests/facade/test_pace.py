"""The pace of a source, as a function of what came when."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from facade.pace import LEAST_BYTES_PER_S, Pace, Paces, TooSlowError
from facade.sources import NetworkName

LEAF = 1024 * 1024
LARGE = 1 << 40


def slow_at(
    came: Callable[[float], float],
    together: Callable[[float], float] | None = None,
    left: int = LARGE,
    until_s: float = 30.0,
    busy: Callable[[float], bool] = lambda now: False,
    looks: Iterable[float] | None = None,
) -> float | None:
    """When a source that has given `came(now)` bytes is first found slow; None when never."""
    pace = Pace(2.0)
    count = int(until_s / pace.look_every_s)
    for now in looks or [number * pace.look_every_s for number in range(count)]:
        own = int(came(now))
        pace.look(now, own, int(together(now)) if together else own, busy=busy(now))
        if pace.is_slow(left, LEAST_BYTES_PER_S):
            return now
    return None


def leaves(bytes_per_s: float, first_s: float = 0.2) -> Callable[[float], float]:
    """Leaves as they come from a source of this pace, the first one early."""
    return lambda now: LEAF * (1 + int((now - first_s) * bytes_per_s / LEAF)) if now >= first_s else 0


@pytest.mark.parametrize("bytes_per_s", [20, 260_000, 600_000, 900_000])
def test_what_slows_down_behind_its_first_leaf_is_left_within_the_promise(bytes_per_s: float) -> None:
    found = slow_at(leaves(bytes_per_s))
    assert found is not None and found <= 2.5


@pytest.mark.parametrize("bytes_per_s", [1_200_000, 2_000_000, 300_000_000])
def test_what_is_not_far_too_slow_is_followed(bytes_per_s: float) -> None:
    assert slow_at(leaves(bytes_per_s)) is None


def test_what_was_fast_is_left_soon_after_it_became_slow() -> None:
    found = slow_at(lambda now: 50_000_000 * min(now, 10.0))
    assert found is not None and 11.5 < found <= 12.5


def test_what_will_be_here_soon_is_waited_for() -> None:
    assert slow_at(lambda now: 500_000 * now, left=400_000) is None
    assert slow_at(lambda now: 500_000 * now, left=600_000) == 2.0


def test_many_blobs_at_once_share_what_a_link_gives() -> None:
    each = leaves(250_000)
    assert slow_at(each, together=lambda now: 8 * 250_000 * now) is None
    assert slow_at(each, together=lambda now: 2 * 250_000 * now) == 2.0


def test_a_disk_that_lags_is_not_held_against_a_source() -> None:
    assert slow_at(lambda now: 0, busy=lambda now: now % 1 < 0.5) is None
    found = slow_at(lambda now: 0, busy=lambda now: now < 5.0)
    assert found is not None and 6.5 < found <= 7.5


def test_nor_is_a_machine_that_did_not_get_to_reading() -> None:
    assert slow_at(lambda now: 0, looks=[0.0, 3.0, 6.0, 9.0, 12.0]) is None


@dataclass
class Blob:
    """A blob on its way, as it is told."""

    size: int | None = LARGE
    received: int = 0
    is_storing: bool = False

    @property
    def prefix(self) -> int:
        return self.received


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


async def test_who_may_not_leave_goes_on_with_what_is_slow_until_he_may() -> None:
    may, asked = False, asyncio.Event()

    def may_leave() -> bool:
        asked.set()
        return may

    async def follow() -> None:
        async with Paces(0.4).of_network(Blob(), NetworkName.KUBO, may_leave):
            await hang()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        await asked.wait()
        assert not following.done()
        may = True
        with pytest.raises(TooSlowError):
            await following


async def test_an_upstream_that_gives_nothing_gives_way_even_to_what_gave_nothing_lately() -> None:
    async with asyncio.timeout(10):
        with pytest.raises(TooSlowError) as left:
            async with Paces(0.4).of_upstream(Blob(), 0.0):
                await hang()
    assert left.value.bytes_per_s == 0.0


async def test_a_block_that_ends_by_itself_leaves_nothing_behind() -> None:
    blob = Blob()
    async with Paces(0.4).of_network(blob, NetworkName.GATEWAYS, lambda: True):
        blob.received = 1


async def test_a_blob_that_waits_behind_others_of_its_network_is_left_once_these_are_done() -> None:
    paces, waiting, fast = Paces(0.4), Blob(), Blob()
    brought = asyncio.Event()

    async def bring() -> None:
        async with paces.of_network(fast, NetworkName.KUBO, lambda: True):
            for _ in range(80):  # twice as long as it takes to judge
                fast.received += LEAST_BYTES_PER_S
                await asyncio.sleep(0.01)
        brought.set()

    async with asyncio.timeout(10):
        bringing = asyncio.create_task(bring())
        with pytest.raises(TooSlowError):
            async with paces.of_network(waiting, NetworkName.KUBO, lambda: True):
                await hang()
        assert brought.is_set()
        await bringing
