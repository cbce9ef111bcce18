"""What an upstream registry does wrong, each by its name."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from node.digest import Digest
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Bearer

NAME = "team/app"
TAG = "v1"
_OTHER = str(Digest.of(b"other bytes"))


@dataclass(frozen=True, slots=True)
class Behind:
    """An upstream that holds one image, and another host that its redirects lead to. `scale`: as all waits."""

    registry: FakeRegistry
    elsewhere: FakeRegistry
    image: FakeImage
    scale: float

    def spoil(self, fault: Fault, *, manifests: bool = True) -> None:
        """Let a fault befall every blob, and every manifest too."""
        self.registry.fault("blobs", "*", replace(fault))
        if manifests:
            self.registry.fault("manifests", "*", replace(fault))

    def spoil_each(self, fault: Callable[[int], Fault]) -> None:
        """Let a fault befall each blob, made for its size in bytes."""
        for blob in self.image.blobs:
            self.registry.fault("blobs", blob.digest, fault(blob.size))

    async def heal(self) -> None:
        """All is well again."""
        self.registry.heal()
        await self.registry.start_again()


class Word(StrEnum):
    """What the upstream says of manifests."""

    RIGHT = "right"
    NONE = "none"
    """Nothing that can be used: what others know of a tag counts then."""
    OTHER = "other"
    """That there is none, or that it is not for everybody."""


Spoil = Callable[[Behind], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How an upstream is spoiled, and what it says of manifests then."""

    spoil: Spoil
    word: Word = Word.RIGHT
    misleads: bool = False
    """Whether wrong bytes of blobs may have reached a client that goes on with them in its next pull."""
    fails: bool = True
    """Whether that is a fault at all, and not what clients have to expect."""


def _with(fault: Fault, *, manifests: bool = True) -> Spoil:
    async def spoil(behind: Behind) -> None:
        behind.spoil(fault, manifests=manifests)

    return spoil


def _each(fault: Callable[[int], Fault]) -> Spoil:
    async def spoil(behind: Behind) -> None:
        behind.spoil_each(fault)

    return spoil


async def _nothing(_: Behind) -> None:
    pass


async def _stop(behind: Behind) -> None:
    await behind.registry.stop()


async def _drip(behind: Behind) -> None:
    behind.spoil(Fault(drip=(40_000, 0.15 * behind.scale)))


async def _redirect(behind: Behind) -> None:
    for blob in behind.image.blobs:
        behind.elsewhere.files[f"/{blob.digest}"] = blob.data
        behind.registry.fault("blobs", blob.digest, Fault(location=f"{behind.elsewhere.url}/{blob.digest}"))


async def _redirect_loop(behind: Behind) -> None:
    behind.registry.fault("files", "*", Fault(location=f"{behind.registry.url}/round"))
    behind.spoil(Fault(location=f"{behind.registry.url}/round"))


async def _expire(behind: Behind) -> None:
    behind.registry.auth = Bearer()
    behind.registry.tokens_last = 3


_429 = Fault(status=429)
_429_LATER = Fault(status=429, retry_after="1")
_SILENT = Fault(silent=True)
_WRONG = Fault(flip_at=100)
_GZIP = Fault(encoding="gzip")

UPSTREAMS = {
    "fine": Misbehaviour(_nothing, fails=False),
    "404": Misbehaviour(_with(Fault(status=404)), Word.OTHER),
    "404-blobs": Misbehaviour(_with(Fault(status=404), manifests=False)),
    "401": Misbehaviour(_with(Fault(status=401)), Word.OTHER),
    "403": Misbehaviour(_with(Fault(status=403)), Word.OTHER),
    "403-blobs": Misbehaviour(_with(Fault(status=403), manifests=False)),
    "429-retry-after": Misbehaviour(_with(_429_LATER), Word.NONE),
    "429": Misbehaviour(_with(_429), Word.NONE),
    "429-blobs": Misbehaviour(_with(_429, manifests=False)),
    "500": Misbehaviour(_with(Fault(status=500)), Word.NONE),
    "500-blobs": Misbehaviour(_with(Fault(status=500), manifests=False)),
    "refused": Misbehaviour(_stop, Word.NONE),
    "silent": Misbehaviour(_with(_SILENT), Word.NONE),
    "silent-blobs": Misbehaviour(_with(_SILENT, manifests=False)),
    "stalls": Misbehaviour(_with(Fault(stall_after=400_000), manifests=False)),
    "cuts": Misbehaviour(_with(Fault(cut_after=400_000), manifests=False)),
    "drips": Misbehaviour(_drip),
    "says-longer": Misbehaviour(_each(lambda size: Fault(length=size + 10))),
    "says-shorter": Misbehaviour(_each(lambda size: Fault(length=size - 10))),
    "wrong-bytes": Misbehaviour(_with(_WRONG), Word.NONE, misleads=True),
    "wrong-bytes-late": Misbehaviour(_each(lambda size: Fault(flip_at=size - 1)), misleads=True),
    "wrong-digest-header": Misbehaviour(_with(Fault(digest=_OTHER))),
    "no-digest-header": Misbehaviour(_with(Fault(no_digest=True)), fails=False),
    "gzip": Misbehaviour(_with(_GZIP), Word.NONE),
    "gzip-blobs": Misbehaviour(_with(_GZIP, manifests=False)),
    "redirect": Misbehaviour(_redirect, fails=False),
    "redirect-loop": Misbehaviour(_redirect_loop, Word.NONE),
    "expired-token": Misbehaviour(_expire, fails=False),
}
"""All that an upstream can do wrong; what concerns manifests as well comes in a second form, for blobs alone."""
