"""Work that goes on beside a context's body."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], stop: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Run `work` beside the body; on exit it is told to `stop` (cancelled when None) and waited for.

    What the body raises comes out as it is, in no group; when `work` fails, the body is cancelled and a group raised.
    """
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        except BaseException as error:
            failure = error
        finally:
            (stop or task.cancel)()
    if failure is not None:
        raise failure
