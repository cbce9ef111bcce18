"""The threads that touch the disk and hash, so that the event loop never waits for either."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Lock
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_DISK_THREADS: Final = 4
_KEPT_BYTES: Final = 32 << 20
_TURN_BYTES: Final = 8 << 20
"""So much is done in one go, then others have their turn."""
_TELL_BYTES: Final = 4 << 20


class Workers:
    """Two pools: hashing must not delay the first byte that is written, so the disk has threads of its own."""

    def __init__(self) -> None:
        self.kept = Allowance(_KEPT_BYTES)
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


class Allowance:
    """A number of bytes that all who use it share, in whichever threads they are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = Lock()

    def take(self, count: int) -> bool:
        """Use `count` bytes; False when so many are not left."""
        with self._lock:
            fits = self.used + count <= self.limit
            self.used += count * fits
        return fits

    def give_back(self, count: int) -> None:
        """Use `count` bytes no longer."""
        with self._lock:
            self.used -= count


class Nudge:
    """Has the event loop call a function soon, once however often threads ask for it meanwhile."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._waiting = False

    def __call__(self) -> None:
        """Ask for it; from any thread."""
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._waiting = False
        self._function()


class Errand:
    """Work that one thread of a pool does, step by step for as long as there is some.

    `step` runs in the thread and returns how many bytes it dealt with, 0 when it found nothing to do. `tell` is called
    there every 4 MiB, and when a turn ends: `error` says what a step raised, and `go_on` may be needed again.
    """

    def __init__(self, pool: Executor, step: Callable[[], int], tell: Callable[[], None]) -> None:
        self.busy = False
        self.error: Exception | None = None
        self._pool = pool
        self._step = step
        self._tell = tell
        self._lock = Lock()

    def go_on(self) -> None:
        """There may be something to do; from any thread."""
        if not self.busy and self._begins():
            self._pool.submit(self._work)

    def _begins(self) -> bool:
        with self._lock:
            begins, self.busy = not self.busy, True
        return begins

    def _work(self) -> None:
        left = _TURN_BYTES
        try:
            while left > 0 and (count := self._step()):
                if left // _TELL_BYTES != (left - count) // _TELL_BYTES:
                    self._tell()
                left -= count
        except Exception as error:
            self.error = error
        if left <= 0 and self.error is None:
            self._pool.submit(self._work)  # behind the others
        else:
            self.busy = False
        self._tell()


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
