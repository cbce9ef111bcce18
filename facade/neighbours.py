"""Which peers may be asked for a blob, as the repository that wants it is an own or a mirrored one."""

from cluster.cluster import Cluster, Holder
from node.digest import Digest
from node.reference import OWN, Repository
from node.store import Store
from node.visibility import Visibility


class Neighbours:
    """The peers that hold a blob and may give it to a repository's clients.

    Anybody can name any digest upstream. What own repositories hold comes to a mirrored one's clients only from
    upstream itself, or from who says that anybody may have it: else an upstream could lend them what they may not read.
    What members share comes to the clients of the repository that they share it as content of, and to no others.
    """

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self._owned = store.owned
        self._cluster = cluster

    async def holders(self, repository: Repository, digest: Digest) -> tuple[Holder, ...]:
        """As `Cluster.holders`, without those that may not be asked.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        if repository.namespace == OWN:
            return self._cluster.holders(digest)
        found = self._cluster.holders(digest, (repository,))
        among_members = [holder for holder in found if holder.visibility is Visibility.MEMBERS]
        if not among_members or not await self._owned.knows(digest):
            return found
        return tuple(holder for holder in found if holder not in among_members)
