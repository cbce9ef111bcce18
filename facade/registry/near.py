"""Manifests and blobs from other nodes, past the flights: nobody waits for their first byte."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from cluster.cluster import Cluster
from facade.background import Background
from facade.registry.once import Once
from facade.sources import Offer, allowed_by, offers
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, NotFoundError
from node.manifest import MAX_MANIFEST_BYTES
from node.reference import Repository
from node.source import Wanted
from node.store import Store
from node.visibility import Proof, Visibility

log: Final = structlog.get_logger(__name__)
BRING_S: Final = 60.0
"""So long a client waits for what other members have; what it then pushes again is here at once."""


async def fetch_manifest(store: Store, cluster: Cluster, repository: Repository, digest: Digest, offer: Offer) -> bytes:
    """Fetch a manifest from the peers of an offer and keep it; its bytes.

    Raises:
        MismatchError: when it is too large for a manifest, or the bytes do not hash to its digest.
        LayermeshError: as `Cluster.fetch`.
    """
    size = offer.holders[0].size
    if size > MAX_MANIFEST_BYTES:
        raise MismatchError(f"{digest}: {size} bytes is too large for a manifest")
    await fetch_blob(store, cluster, Wanted(repository, digest, size), offer)
    return await store.load(digest)


class Bringing:
    """Brings blobs of own repositories here for good; each is fetched once, however many wait for it."""

    def __init__(self, background: Background, store: Store, cluster: Cluster) -> None:
        self._store = store
        self._cluster = cluster
        self._once: Once[Digest, None] = Once(background)

    async def bring(self, repository: Repository, digests: Iterable[Digest]) -> None:
        """Have blobs of an own repository here for good, fetched from other members where they are not.

        What is private here counts as not here: see `facade.registry.blobs`.

        Raises:
            NotFoundError: naming one that no member gives now.
            FullError: when the disk has no room.
        """
        try:
            async with asyncio.timeout(BRING_S):
                for digest in digests:
                    await self._have(repository, digest)
        except TimeoutError:
            raise NotFoundError(f"{repository.name}: the members that have its blobs are too slow") from None

    async def _have(self, repository: Repository, digest: Digest) -> None:
        for again in (True, False):
            holding = await self._store.find(digest)
            if holding is None or holding.visibility.hidden:
                await self._once.share(digest, partial(self._fetch, repository, digest))
            came_for_it = await self._store.repositories.confirmed(repository, digest)
            if not came_for_it:  # it may be seen for a reason that ends
                await self._store.repositories.show(repository, digest, Proof(Visibility.MEMBERS))
            try:
                await self._store.sync(digest)
            except NotFoundError:  # its file was gone
                if not again:
                    raise
            else:
                return

    async def _fetch(self, repository: Repository, digest: Digest) -> None:
        for offer in offers(self._cluster.holders(digest), None):
            wanted = Wanted(repository, digest, offer.holders[0].size)
            try:
                return await fetch_blob(self._store, self._cluster, wanted, offer)
            except FullError:
                raise
            except LayermeshError as error:
                log.info("member gave no blob", digest=str(digest), why=str(error))
        raise NotFoundError(f"{digest}: the members that have it are away")


async def fetch_blob(store: Store, cluster: Cluster, wanted: Wanted, offer: Offer) -> None:
    """Fetch a blob from the peers of an offer and keep it.

    Raises:
        LayermeshError: as `Cluster.fetch`; also when the bytes do not hash to its digest.
    """
    async with store.ingest(wanted) as ingest:
        await cluster.fetch(wanted, offer.holders, ingest)
        await ingest.verified()
        await ingest.commit(at_most=allowed_by(offer.holders))
