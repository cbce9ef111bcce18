"""Manifests and blobs from other nodes, past the flights: nobody waits for their first byte."""

from cluster.cluster import Cluster
from facade.sources import Offer
from node.digest import Digest
from node.errors import MismatchError
from node.manifest import MAX_MANIFEST_BYTES
from node.reference import Repository
from node.source import Wanted
from node.store import Store


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


async def fetch_blob(store: Store, cluster: Cluster, wanted: Wanted, offer: Offer) -> None:
    """Fetch a blob from the peers of an offer and keep it.

    Raises:
        LayermeshError: as `Cluster.fetch`; also when the bytes do not hash to its digest.
    """
    async with store.ingest(wanted) as ingest:
        await cluster.fetch(wanted, offer.holders, ingest)
        await ingest.verified()
        await ingest.commit()
