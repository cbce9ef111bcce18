"""What a peer does wrong, each by its name."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.facade.matrix.upstreams import NAME, TAG
from tests.fakes.images import FakeImage
from tests.fakes.peer import FakePeer, Faults, fake_peer

PEERS = ("none", "good", "stalls", "cuts", "lies-about-bytes", "lies-about-the-mapping", "gone")
_FAULTS = {
    "stalls": Faults(stall_after=300_000),
    "cuts": Faults(cut_after=300_000),
    "lies-about-bytes": Faults(flip_at=100),
}


@asynccontextmanager
async def peer_with(
    image: FakeImage, how: str, secret: bytes | None, host: str = "127.0.0.1"
) -> AsyncIterator[FakePeer]:
    """A peer that says that it holds the image, and has seen its tag; it behaves until it is told to misbehave.

    Who lies about the mapping does so about the layers alone: with any other lie it is found out before they are asked.
    """
    peer = FakePeer(secret=secret)
    for blob in (image.manifest, *image.blobs):
        lies = how == "lies-about-the-mapping" and blob in image.layers
        peer.hold(bytes(blob.size) if lies else blob.data, blob.digest)
    peer.see(TAG, image.manifest.digest, time.time() - 60, NAME)
    async with fake_peer(peer, host) as running:
        yield running


async def misbehave(peer: FakePeer, how: str) -> None:
    """Begin with it."""
    peer.faults = _FAULTS.get(how, Faults())
    if how == "gone":
        await peer.leave()
