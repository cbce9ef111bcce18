"""Which CIDs a blob may have, and whether an IPFS network may be asked for it at all.

Asking for a CID tells others of it. So networks are asked only for what anybody may have: what was proved public for
the repository that wants it, or what a peer says that anybody may have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.cluster import Cluster, Holder
from node.cid import Cid
from node.digest import Algorithm, Digest
from node.errors import UnreachableError
from node.reference import OWN, Repository
from node.source import Wanted
from node.store import Store
from node.unixfs import LEAF_BYTES
from node.visibility import Visibility


@dataclass(frozen=True, slots=True)
class Mapping:
    """A CID that a blob may have. `vouched`: somebody says that he has it."""

    cid: Cid
    size: int
    believed: bool
    vouched: bool


class Mappings:
    """What this node computed itself, and what its peers name; `is_vouched` tells if any of these may have it."""

    def __init__(self, store: Store, cluster: Cluster, is_vouched: Callable[[Sequence[Holder]], bool] = bool) -> None:
        self._store = store
        self._cluster = cluster
        self._is_vouched = is_vouched

    async def of(self, wanted: Wanted) -> list[Mapping]:
        """The CIDs of a blob, those that are believed first; none of what may not be asked for."""
        if not await self.may_ask(wanted.repository, wanted.digest):
            return []
        known: list[Mapping] = []
        named = self.named(wanted.digest)
        cid = cid_of_small(wanted.digest)
        if cid is not None and wanted.size is not None and wanted.size <= LEAF_BYTES:
            known.append(Mapping(cid, wanted.size, believed=True, vouched=self._is_vouched(named)))
        elif (dropped := await self._store.dropped(wanted.digest)) is not None:
            vouched = self._is_vouched([each for each in named if each.cid == dropped[0]])
            known.append(Mapping(*dropped, believed=True, vouched=vouched))
        known += [Mapping(each.cid, each.size, each.member, self._is_vouched([each])) for each in named]
        return [each for each in known if wanted.size in (None, each.size)]

    def named(self, digest: Digest) -> list[Holder]:
        """Who says that anybody may have it, whether he still answers or not: his IPFS daemon may."""
        return [each for each in self._cluster.named(digest) if each.visibility is Visibility.PUBLIC]

    async def may_ask(self, repository: Repository, digest: Digest) -> bool:
        """Whether anybody may have a blob, as far as this node can tell."""
        try:
            if repository.namespace == OWN or await self._store.owned.knows(digest):
                return False
            if self.named(digest):
                return True
            link = await self._store.repositories.link(repository, digest)
        except UnreachableError:  # the catalog cannot be read, so nothing is known of whose it is
            return False
        return link is not None and link.visibility is Visibility.PUBLIC


def cid_of_small(digest: Digest) -> Cid | None:
    """The CID of a blob of at most 1 MiB with this digest: one raw leaf; None where the digest is no sha256."""
    return Cid.from_hash(bytes.fromhex(digest.hex)) if digest.algorithm is Algorithm.SHA256 else None
