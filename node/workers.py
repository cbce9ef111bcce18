"""The threads that touch the disk and hash, so that the event loop never waits for either."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_DISK_THREADS: Final = 4


class Workers:
    """Two pools: hashing must not delay the first byte that is written, so the disk has threads of its own."""

    def __init__(self) -> None:
        self.kept_bytes = 0
        """How much is kept in memory to be hashed, of all blobs together."""
        self.disk: Executor = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="layermesh-disk")
        self.hashing: Executor = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="layermesh-hash")

    async def on_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a disk thread; its `OSError` comes through."""
        return await asyncio.get_running_loop().run_in_executor(self.disk, lambda: work(*args, **kwargs))

    async def hashed(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a hashing thread; its `OSError` comes through."""
        return await asyncio.get_running_loop().run_in_executor(self.hashing, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        """Finish what was begun and end the threads."""
        await asyncio.to_thread(self.disk.shutdown)
        await asyncio.to_thread(self.hashing.shutdown)


class Pulse:
    """Wakes all who wait, each time something moves. Who wakes looks for himself at what it was."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait for the next beat."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def beat(self) -> None:
        """Wake all who wait now."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)
