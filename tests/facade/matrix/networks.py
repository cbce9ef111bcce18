"""What an IPFS network does wrong, each by its name: a node's own Kubo, or a gateway, that has the whole image."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.facade.machine import Machine, until
from tests.fakes.gateway import FakeGateway, fake_gateway
from tests.fakes.images import FakeImage
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.kubo_faults import KuboFaults
from tests.fakes.peer import dag_of

MIB: Final = 1024 * 1024
_SLOW: Final = 20_000.0
"""Bytes a second: what is left of a layer behind its first leaf would take twelve seconds."""


@dataclass
class Beside:
    """The network of one node: a Kubo, a gateway, or none."""

    kubo: FakeKubo | None = None
    gateway: FakeGateway | None = None


ALONE: Final = Beside()


def _kubo(spoil: Callable[[FakeKubo, FakeImage], None]) -> Callable[[Beside, FakeImage], None]:
    def spoiled(beside: Beside, image: FakeImage) -> None:
        assert beside.kubo is not None
        spoil(beside.kubo, image)

    return spoiled


def _faults(**faults: object) -> Callable[[Beside, FakeImage], None]:
    def spoil(kubo: FakeKubo, _image: FakeImage) -> None:
        kubo.faults = KuboFaults(**faults)  # type: ignore[arg-type]

    return _kubo(spoil)


def _lose_a_leaf(kubo: FakeKubo, image: FakeImage) -> None:
    for layer in image.layers[:2]:
        del kubo.blocks[dag_of(layer.data).leaf(1).cid]


def _damage_a_leaf(kubo: FakeKubo, image: FakeImage) -> None:
    kubo.faults.wrong_leaf = dag_of(image.layers[0].data).leaf(1).cid


def _gateway(**faults: object) -> Callable[[Beside, FakeImage], None]:
    def spoil(beside: Beside, _image: FakeImage) -> None:
        for name, value in faults.items():
            setattr(beside.gateway, name, value)

    return spoil


NETWORKS: Final = {
    "kubo-good": _faults(),
    "kubo-frozen": _faults(frozen=True),
    "kubo-freezes": _faults(freeze_after=MIB),
    "kubo-dies": _faults(gone_after=MIB),
    "kubo-lacks-a-leaf": _kubo(_lose_a_leaf),
    "kubo-collects": _faults(gc_after=MIB),
    "kubo-lies-about-a-leaf": _kubo(_damage_a_leaf),
    "kubo-html": _faults(html=True),
    "kubo-slows-down": _faults(slow_behind=(MIB, _SLOW)),
    "gateway-good": _gateway(),
    "gateway-html": _gateway(html=True),
    "gateway-lies": _gateway(lies=True),
    "gateway-stalls": _gateway(stalls=True),
    "gateway-slows-down": _gateway(slow_behind=(3, _SLOW)),
}
"""All that a network can do wrong, before the pull or in the middle of a body."""
WELL: Final = frozenset({"kubo-good", "gateway-good"})
USED: Final = WELL | {
    "kubo-freezes",
    "kubo-dies",
    "kubo-lacks-a-leaf",
    "kubo-collects",
    "kubo-slows-down",
    "gateway-slows-down",
}
"""Those that give something before anything is wrong."""


@asynccontextmanager
async def network_of(name: str) -> AsyncIterator[Beside]:
    """The network that a node has, which behaves until it is told to misbehave."""
    if name.startswith("kubo"):
        async with fake_kubo() as kubo:
            yield Beside(kubo=kubo)
    else:
        async with fake_gateway(FakeGateway()) as gateway:
            yield Beside(gateway=gateway)


async def fill(beside: Beside, node: Machine, image: FakeImage, tag: str) -> None:
    """Let the network have all that the node had once: so it knows the CIDs, and lacks the bytes."""
    blobs = (image.manifest, *image.blobs)
    for blob in blobs:
        await (node.manifest(tag) if blob is image.manifest else node.blob(blob.digest))
        await node.landed(blob.digest)
        if beside.gateway is not None:
            beside.gateway.hold(blob.data)
    if (kubo := beside.kubo) is not None:
        await until(lambda: len(kubo.pinned) == len(blobs))
    for blob in blobs:
        await node.store.drop(blob.digest)
    if kubo is not None:
        await until(lambda: not kubo.pinned)


def heal(beside: Beside) -> None:
    """Misbehave no longer."""
    if beside.kubo is not None:
        beside.kubo.faults = KuboFaults()
        beside.kubo.released.set()
    if beside.gateway is not None:
        usual = FakeGateway()
        for name in ("html", "lies", "stalls", "slow_behind"):
            setattr(beside.gateway, name, getattr(usual, name))
