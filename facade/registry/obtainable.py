"""Whether a manifest's blobs can be had now: a manifest that is answered is a promise (Podman goes nowhere else)."""

from collections.abc import Sequence
from typing import Final

from cluster.cluster import Cluster
from facade.flights import Flights
from facade.ipfs import NO_IPFS, Ipfs
from facade.neighbours import Neighbours
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.manifest import Descriptor, Manifest, Role, parse_manifest
from node.reference import Repository
from node.store import Store

_DEEPEST: Final = 4
"""So many indexes within indexes are looked into."""


class Obtainable:
    """Looks for what a manifest names: here, with a live peer, or in the IPFS network.

    For manifests of own repositories (`own`) what is private here is not: its bytes are another repository's.
    """

    def __init__(
        self, store: Store, cluster: Cluster, flights: Flights, ipfs: Ipfs = NO_IPFS, *, own: bool = False
    ) -> None:
        self._store = store
        self._neighbours = Neighbours(store, cluster)
        self._flights = flights
        self._ipfs = ipfs
        self._own = own
        self._all_here: dict[Digest, int] = {}

    async def here(self, manifest: Manifest) -> bool:
        """Whether every blob is on this disk; remembered until any blob is dropped, but not of own repositories."""
        generation = self._store.generation
        if self._all_here.get(manifest.digest) == generation:
            return True
        if manifest.is_index or await self._missing(manifest):
            return False
        if self._own:
            return True  # what may be seen changes without any blob being dropped
        if len(self._all_here) > 4096:
            self._all_here.clear()
        self._all_here[manifest.digest] = generation
        return True

    async def around(
        self, repository: Repository, manifest: Manifest, depth: int = _DEEPEST, *, late: bool = False
    ) -> bool:
        """Whether every blob is here or to be had; of an index, whether that holds for one of its children.

        `late`: upstream gave no answer, so that IPFS may take its time.
        """
        children = [each for each in manifest.names if each.role is Role.MANIFEST]
        if children:
            return await self._any_of(repository, children, depth, late)
        for digest in await self._missing(manifest):
            if not await self._has_somebody(repository, digest, late):
                return False
        return True

    async def _has_somebody(self, repository: Repository, digest: Digest, late: bool) -> bool:
        if await self._neighbours.holders(repository, digest):
            return True
        return await self._ipfs.obtainable(repository, digest, late=late)

    async def _missing(self, manifest: Manifest) -> set[Digest]:
        """What a pull needs that is not on this disk, and not about to be. The store remembers it for the pull."""
        needed = [each.digest for each in manifest.names if each.distributable]
        if self._own:
            return await self._store.missing(needed, shown=True)
        return await self._store.missing([digest for digest in needed if not self._flights.landing(digest)])

    async def _any_of(self, repository: Repository, children: Sequence[Descriptor], depth: int, late: bool) -> bool:
        for child in children:
            if depth and await self._child(repository, child, depth - 1, late):
                return True
        return False

    async def _child(self, repository: Repository, child: Descriptor, depth: int, late: bool) -> bool:
        if self._own and await self._store.missing([child.digest], shown=True):
            return bool(await self._neighbours.holders(repository, child.digest))
        try:
            manifest = parse_manifest(await self._store.load(child.digest), child.media_type, child.digest)
        except NotFoundError:
            return await self._has_somebody(repository, child.digest, late)
        except InvalidError:
            return False
        return await self.around(repository, manifest, depth, late=late)
