"""Several IPFS networks as one: each is asked in turn."""

from collections.abc import Mapping, Sequence

from facade.ipfs import Ipfs
from facade.sources import NetworkFile, NetworkName, Offer
from node.digest import Digest
from node.errors import NotFoundError
from node.reference import Repository
from node.source import Sink, Wanted


class Networks:
    """`Ipfs` on those that a node has, in their order; with none, it has nothing."""

    def __init__(self, networks: Mapping[NetworkName, Ipfs]) -> None:
        self._networks = dict(networks)

    async def offers(self, wanted: Wanted) -> Sequence[Offer]:
        """Implements `Ipfs.offers`."""
        return [offer for network in self._networks.values() for offer in await network.offers(wanted)]

    async def fetch(self, wanted: Wanted, file: NetworkFile, sink: Sink, *, late: bool = False) -> None:
        """Implements `Ipfs.fetch`, from the one that offered it."""
        network = self._networks.get(file.network)
        if network is None:
            raise NotFoundError(f"{file.cid}: this node has no {file.network} to ask")
        await network.fetch(wanted, file, sink, late=late)

    async def small(self, repository: Repository, digest: Digest, *, late: bool) -> bytes | None:
        """Implements `Ipfs.small`: from the first that gives it."""
        for network in self._networks.values():
            if (data := await network.small(repository, digest, late=late)) is not None:
                return data
        return None

    async def obtainable(self, repository: Repository, digest: Digest, *, late: bool) -> bool:
        """Implements `Ipfs.obtainable`."""
        for network in self._networks.values():
            if await network.obtainable(repository, digest, late=late):
                return True
        return False
