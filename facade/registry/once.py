"""One call at a time for each key, shared by everyone who asks for it meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from facade.background import Background

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Once(Generic[K, T]):
    """Calls under way. A caller that is cancelled leaves the call to the others; it goes on even without them."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._calls: dict[K, asyncio.Future[T]] = {}

    async def share(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the call under way for `key`, or of `call` begun now. Its exception is everyone's."""
        future = self._calls.get(key)
        if future is None:
            future = self._calls[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._background.start(self._run(key, call, future), f"ask {key}")
        return await asyncio.shield(future)

    async def _run(self, key: K, call: Callable[[], Coroutine[Any, Any, T]], future: asyncio.Future[T]) -> None:
        try:
            result = await call()
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:  # handed to every caller; none of them is this task
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            del self._calls[key]
