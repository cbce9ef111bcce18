"""Work beside the requests."""

import asyncio
import gc

from facade.background import Background


async def test_work_that_is_cancelled_before_it_began_leaves_nothing() -> None:
    async def work() -> None:
        raise AssertionError("it was to be cancelled first")

    async with Background() as background:
        task = background.start(work(), "work")
        task.cancel()
        await asyncio.wait([task])
    gc.collect()  # a coroutine that nobody awaited would be told of, which fails the test
    assert task.cancelled()
