"""Blobs fetched for this machine's Kubo: from peers who offer them to anybody, whole, a few at a time, and kept."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from cluster.cluster import Cluster
from facade.background import Background
from facade.metrics import Metrics
from facade.sidecar.fetch import Fetch
from facade.sources import Offer, SourceName, offers
from node.cid import Cid
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, UnreachableError
from node.lent import LENT
from node.source import Wanted
from node.store import Store
from node.visibility import Proof, Visibility

log = structlog.get_logger(__name__)
MOST_AT_ONCE: Final = 16
MOST_IN_ALL: Final = 64
"""So many are under way or wait for their turn; whoever asks for a further one is told that it is not here."""


class Fetches:
    """All of them, one for each root. `clock` gives unix seconds; what members offer is theirs for `proof_s`."""

    def __init__(
        self,
        background: Background,
        store: Store,
        cluster: Cluster,
        metrics: Metrics,
        clock: Callable[[], float],
        proof_s: float,
    ) -> None:
        self._background = background
        self._store = store
        self._cluster = cluster
        self._on_fetched = partial(metrics.fetched, SourceName.PEER)
        self._clock = clock
        self._proof_s = proof_s
        self._fetches: dict[Cid, Fetch] = {}
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    def bringing(self, cid: Cid) -> Fetch | None:
        """The fetch that a block comes with; None when there is none."""
        found = self._fetches.get(cid)
        return found or next((each for each in self._fetches.values() if each.has(cid)), None)

    def offered(self, cid: Cid) -> tuple[Digest, Offer] | None:
        """The peers who offer the blob with this root to anybody, and what they say that its digest is.

        Where they differ, members count before others, and then the most.
        """
        found = [
            (digest, offer)
            for digest, holders in self._cluster.rooted(cid).items()
            for offer in offers((each for each in holders if each.visibility is Visibility.PUBLIC), None)
        ]
        return max(found, key=lambda each: (each[1].believed, len(each[1].holders)), default=None)

    def start(self, cid: Cid) -> Fetch | None:
        """Fetch the blob with this root; None when no peer offers it, or too many others are fetched.

        It goes on to its end even when nobody waits any more, once its turn has come.
        """
        found = self.offered(cid)
        if found is None:
            return None
        if len(self._fetches) >= MOST_IN_ALL:
            log.warning("not fetched for kubo: too much is already", cid=str(cid))
            return None
        fetch = self._fetches[cid] = Fetch(cid, *found, self._on_fetched)
        self._background.start(self._run(fetch), f"fetch {cid}")
        return fetch

    def resumed(self) -> list[Fetch]:
        """Go on with what was begun before and did not come, as far as peers offer it to anybody."""
        found = []
        for root in self._store.lent.awaited:
            fetch = self._fetches.get(root)
            if fetch is None and (fetch := self.start(root)):
                fetch.again = True
            found.extend([fetch] if fetch else [])
        return found

    async def _run(self, fetch: Fetch) -> None:
        about = {"cid": str(fetch.root), "digest": str(fetch.digest), "size_bytes": fetch.said_bytes}
        try:
            queued = self._turns.locked()
            async with self._turns:
                if queued and not fetch.waiting:
                    raise UnreachableError("nobody waited until its turn came")
                await self._fetch(fetch)
            log.info("fetched for kubo", **about, peers=len(fetch.offer.holders))
        except LayermeshError as error:
            log.warning("not fetched for kubo", **about, why=str(error))
            if fetch.again and self.offered(fetch.root) is None:
                with suppress(FullError):
                    await self._store.lent.give_up(fetch.root)
        finally:
            self._over(fetch)

    async def _fetch(self, fetch: Fetch) -> None:
        others = sum(each.said_bytes for each in self._fetches.values() if each.begun)
        if await self._store.room() < others + fetch.said_bytes:
            raise FullError("there is no room on the disk")
        await self._store.lent.expect(fetch.root)
        wanted = Wanted(LENT, fetch.digest, fetch.said_bytes)
        async with self._store.ingest(wanted) as ingest:
            fetch.begin(ingest)
            try:
                await self._cluster.fetch(wanted, fetch.offer.holders, fetch)
                await ingest.verified()
                await ingest.commit(self._proof(fetch.offer))
                await self._store.lent.lend(fetch.digest)
                await self._store.lent.give_up(fetch.root)
            except MismatchError:
                self._cluster.blame(fetch.digest, fetch.root)
                raise
            finally:
                self._over(fetch)  # while the file is open: else a reader might find another behind its number

    def _proof(self, offer: Offer) -> Proof | None:
        """A member's word makes content the members'; a stranger's makes it nobody's."""
        if not all(holder.member for holder in offer.holders):
            return None
        return Proof(Visibility.MEMBERS, self._clock() + self._proof_s)

    def _over(self, fetch: Fetch) -> None:
        fetch.end()
        if self._fetches.get(fetch.root) is fetch:
            del self._fetches[fetch.root]
