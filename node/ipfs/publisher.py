"""Keeping a network in step with the store: what anybody may have is offered there, and nothing else of this node.

Nothing is remembered of what was published: the change log says what anybody may have, and the network's pins what was
offered. So a restart, another daemon or a lost catalog only mean that the two are compared again.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol

import structlog

from node.changes import Change
from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, FullError, LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.contracts import Health, Network
from node.store import Store
from node.visibility import Audience, Visibility
from node.workers import Pulse

_log: Final = structlog.get_logger(__name__)
_AT_ONCE: Final = 200
COMPARE_EVERY_S: Final = 3600.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0


class Watched(Network, Protocol):
    """A network that somebody looks at now and then; `known` is what was seen last, `moved` beats when it changes."""

    @property
    def known(self) -> Health: ...

    @property
    def moved(self) -> Pulse: ...


class Publisher:
    """One blob at a time, in the order in which they came; whoever pulls or pushes never waits for it."""

    def __init__(
        self,
        store: Store,
        network: Watched,
        *,
        first_pause_s: float = _FIRST_PAUSE_S,
        compare_every_s: float = COMPARE_EVERY_S,
    ) -> None:
        self.offered = 0
        """How many blobs are offered, as far as it was looked."""
        self.withdrawn = 0
        """How many were withdrawn since the start."""
        self.in_step = False
        """Whether everything that the log says was done."""
        self.trouble: str | None = None
        """What keeps a blob from being offered, for people; None once all are."""
        self._store = store
        self._network = network
        self._first_pause_s = first_pause_s
        self._compare_every_s = compare_every_s

    async def run(self) -> None:
        """Go on until cancelled; a network that fails is left alone for longer and longer."""
        pause_s = self._first_pause_s
        while True:
            await self._until_usable()
            try:
                await self._keep_in_step()
                pause_s = self._first_pause_s
            except LayermeshError as error:
                self.in_step, self.trouble = False, str(error)
                _log.warning("publishing put off", why=str(error), seconds=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _until_usable(self) -> None:
        while self._network.known.trouble is not None:
            self.in_step = False
            await self._network.moved.wait()

    async def _keep_in_step(self) -> None:
        """Compare everything, then follow the log, until the network is another one, or it is time to compare again."""
        loop = asyncio.get_running_loop()
        identity, until, self.trouble = self._network.known.identity, loop.time() + self._compare_every_s, None
        log_id = self._store.log_id
        await self._withdraw_leftovers()
        self.offered = 0
        upto = await self._catch_up(0)
        while self._network.known.trouble is None and self._network.known.identity == identity:
            if loop.time() >= until or self._store.log_id != log_id:
                return
            self.in_step = True
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await _first_of(self._store.wait_changes(upto), self._network.moved.wait())
            self.in_step = False
            upto = await self._catch_up(upto)
        self.in_step = False

    async def _withdraw_leftovers(self) -> None:
        """End the pins of blobs that are here no longer, or no longer anybody's."""
        async with aclosing(self._network.pins()) as pins:
            left = [pin.cid async for pin in pins if pin.digest is not None and not await self._is_public(pin.cid)]
        for cid in left:  # behind the list, for the daemon changes no pin while it lists them
            await self._withdraw(cid)

    async def _catch_up(self, upto: int) -> int:
        more = True
        while more:
            page = await self._store.changes(upto, Audience.PUBLIC, _AT_ONCE)
            for entry in page.entries:
                if isinstance(entry, Change):
                    await (self._offer if entry.holding is not None else self._end)(entry.digest)
            upto, more = page.upto, page.more
        return upto

    async def _offer(self, digest: Digest) -> None:
        try:
            await self._network.add(digest)
            self.offered += 1
        except (NotFoundError, DeniedError):
            return  # gone or hidden meanwhile, which the log says further on
        except FullError:
            raise
        except (MismatchError, UnreachableError) as error:
            if (await self._network.health()).trouble is not None:
                raise
            self.trouble = f"{digest} is not published: {error}"
            _log.warning("blob not published", digest=str(digest), why=str(error))

    async def _end(self, digest: Digest) -> None:
        holding = await self._store.find(digest)
        dropped = (holding.cid, holding.size) if holding else await self._store.dropped(digest)
        self.offered = max(0, self.offered - 1)
        if dropped is not None and not await self._is_public(dropped[0]):
            await self._withdraw(dropped[0])

    async def _withdraw(self, cid: Cid) -> None:
        await self._network.withdraw(cid)
        self.withdrawn += 1

    async def _is_public(self, cid: Cid) -> bool:
        """Whether any blob with these bytes is here that anybody may have."""
        holding = await self._store.find_cid(cid)
        return holding is not None and holding.visibility is Visibility.PUBLIC


async def _first_of(*waits: Coroutine[Any, Any, None]) -> None:
    """Wait until one of them ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
