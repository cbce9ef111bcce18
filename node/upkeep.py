"""What goes on behind a store: adopting files without rows, syncing, ending proofs, and verifying once a week."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import Final

import structlog

from node.cid import load_tables
from node.digest import Digest
from node.errors import FullError, LayermeshError, NotFoundError
from node.folder import boot_id
from node.growing import reason
from node.holding import Entry
from node.shelf import Shelf
from node.tasks import in_background

CYCLE_S: Final = 7 * 24 * 3600.0
_EASE: Final = 4.0
"""Scrubbing rests this many times as long as it works: a fifth of one core at most."""
_SWEEP_EVERY_S: Final = 30.0
_SYNC_AFTER_S: Final = 5.0
_SYNC_AT_ONCE: Final = 64
_LONGEST_NAP_S: Final = 3600.0
_AFTER_TROUBLE_S: Final = 60.0
_log: Final = structlog.get_logger(__name__)


class Upkeep:
    """The background work of one store; `run` it beside."""

    def __init__(self, shelf: Shelf, clock: Callable[[], float]) -> None:
        self.adopted = asyncio.Event()
        """Set when every file has its row."""
        self._unadopted = asyncio.Event()
        """Set while one may have none."""
        self._unadopted.set()
        self.now_and_then: Sequence[Callable[[], Awaitable[None]]] = ()
        """What others want done once an hour."""
        self._shelf = shelf
        self._catalog = shelf.catalog
        self._clock = clock

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Look how the last run ended, then work beside the body."""
        try:
            await self._begin()
        except FullError as error:  # a full disk is a state: what is here can be read
            _log.warning("the catalog cannot be written", reason=str(error))
        async with in_background(self._run()):
            yield
        with suppress(FullError):
            await self._shelf.database.remember("clean", "1")

    async def _begin(self) -> None:
        database = self._shelf.database
        database.on_renewal = self._renewed
        before, boot = database.meta, await self._shelf.workers.on_disk(boot_id)
        if before.get("boot", boot) != boot:
            await database.write(self._catalog.after_power_loss)
            if before["clean"] != "1":  # numbers of the log may have been lost that others have seen
                await database.remember("log_id", token_hex(16))
        if before["adopting"] == "1" or before["clean"] != "1":
            await database.remember("adopting", "1")
        else:
            self._all_adopted()
        await database.remember("boot", boot)
        await database.remember("clean", "0")

    def _renewed(self) -> None:
        self._catalog.forget()
        self.adopted.clear()
        self._unadopted.set()

    async def _run(self) -> None:
        await self._shelf.workers.on_disk(load_tables)
        async with asyncio.TaskGroup() as group:
            for work in (
                self._adopt_when_asked,
                self._sync_when_kept,
                self._sweep_now_and_then,
                self._tidy_now_and_then,
                self._scrub_when_due,
            ):
                group.create_task(_on_and_on(work))

    async def adopt(self) -> None:
        """Look at every file: adopt those that have no row.

        Raises:
            UnreachableError: when the catalog cannot be read.
            FullError: when it cannot be written.
        """
        on_disk, epoch = self._shelf.workers.on_disk, self._shelf.database.epoch
        for shard in await on_disk(self._shelf.folder.shards):
            for digest in await self._catalog.missing(await on_disk(self._shelf.folder.digests, shard)):
                await self._shelf.adopt(digest)
        await self._shelf.database.remember("boot", await on_disk(boot_id))
        await self._shelf.database.remember("adopting", "0")
        if epoch == self._shelf.database.epoch:  # else an empty one took its place meanwhile
            self._all_adopted()

    async def sync(self) -> None:
        """Make all blobs kept so far survive a loss of power.

        Raises:
            UnreachableError: when the catalog cannot be read.
            FullError: when it cannot be written.
        """
        while entries := await self._catalog.not_durable(_SYNC_AT_ONCE):
            synced = [entry for entry in entries if await self._synced(entry)]
            if not synced:
                break
            await self._shelf.database.write(partial(self._catalog.durable, synced))

    async def scrub(self, ease: float = 0.0) -> Digest | None:
        """Verify the blob verified longest ago; a damaged one is dropped. None when there is none.

        Raises:
            UnreachableError: when the catalog cannot be read.
            FullError: when it cannot be written.
        """
        oldest = await self._catalog.verified_longest_ago()
        if oldest is None:
            return None
        with suppress(NotFoundError):  # dropped, and logged where it was found
            await self._shelf.check(oldest[0], ease)
        return oldest[0].digest

    def _all_adopted(self) -> None:
        self._unadopted.clear()
        self.adopted.set()

    async def _synced(self, entry: Entry) -> bool:
        try:
            await self._shelf.workers.on_disk(self._shelf.folder.sync, entry.digest)
        except FileNotFoundError:
            return True  # what is missing is found when it is used
        except OSError as error:
            _log.warning("blob not synced", digest=str(entry.digest), reason=reason(error))
            return False
        return True

    async def _adopt_when_asked(self) -> None:
        await self._unadopted.wait()
        await self.adopt()

    async def _sync_when_kept(self) -> None:
        await self._shelf.unsynced.wait()
        await asyncio.sleep(_SYNC_AFTER_S)
        self._shelf.unsynced.clear()
        await self.sync()

    async def _sweep_now_and_then(self) -> None:
        await self._catalog.sweep()
        await asyncio.sleep(_SWEEP_EVERY_S)

    async def _tidy_now_and_then(self) -> None:
        await asyncio.sleep(_LONGEST_NAP_S)
        for tidy in self.now_and_then:
            await tidy()

    async def _scrub_when_due(self) -> None:
        oldest = await self._catalog.verified_longest_ago()
        due_in = _LONGEST_NAP_S if oldest is None else oldest[1] + CYCLE_S - self._clock()
        if due_in > 0:
            await asyncio.sleep(min(due_in, _LONGEST_NAP_S))
        else:
            await asyncio.sleep(1)
            await self.scrub(_EASE)


async def _on_and_on(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except LayermeshError as error:
            _log.warning("upkeep put off", reason=str(error))
            await asyncio.sleep(_AFTER_TROUBLE_S)
