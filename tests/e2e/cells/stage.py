"""The fakes of a cell: an upstream and a peer that misbehave, served from a host of the network."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.e2e.cells.table import Cell
from tests.e2e.network import Host, inside
from tests.facade.matrix.cells import IMAGE
from tests.facade.matrix.peers import misbehave, peer_with
from tests.facade.matrix.upstreams import NAME, TAG, UPSTREAMS, Behind
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, Faults
from tests.fakes.registry import FakeRegistry

OTHER: Final = make_image("unrelated", (400_000,))
_DONE_WITHIN_S: Final = 20.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """Two upstreams of the same kind, one for pulls through a node and one for direct ones, and the node's peer.

    `elsewhere` is where redirects lead; it holds `OTHER` as well.
    """

    behind: Behind
    direct: Behind
    elsewhere: FakeRegistry
    peer: FakePeer | None
    run: Callable[[Coroutine[Any, Any, None]], None]

    def spoil(self, cell: Cell) -> None:
        """Begin with what is wrong in a cell."""
        for behind in (self.behind, self.direct):
            self.run(_spoil(cell, behind))
        if self.peer is not None:
            self.run(misbehave(self.peer, cell.peer))

    def heal(self) -> None:
        """All is well again."""
        self.run(self.behind.heal())
        if self.peer is not None:
            self.peer.faults = Faults()


@contextmanager
def open_stage(host: Host, cell: Cell, secret: bytes | None) -> Iterator[Stage]:
    """The stage of a cell, on which everybody behaves as yet."""
    with _loop_inside(host) as loop:

        def run(coroutine: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_DONE_WITHIN_S)

        stack = AsyncExitStack()
        upstream, direct, elsewhere = (
            run(stack.enter_async_context(FakeRegistry(host=host.address))) for _ in range(3)
        )
        elsewhere.push("library/other", OTHER, TAG)
        try:
            peer = None
            if cell.peer != "none":
                peer = run(stack.enter_async_context(peer_with(IMAGE, cell.peer, secret, host.address)))
            behind, directly = (Behind(each, elsewhere, _pushed(each), scale=1) for each in (upstream, direct))
            yield Stage(behind, directly, elsewhere, peer, run)
        finally:
            run(stack.aclose())


@contextmanager
def _loop_inside(host: Host) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop whose sockets are a host's."""
    loop = asyncio.new_event_loop()

    def serve() -> None:
        with inside(host.namespace):
            loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _spoil(cell: Cell, behind: Behind) -> None:
    await UPSTREAMS[cell.upstream].spoil(behind)


def _pushed(registry: FakeRegistry) -> FakeImage:
    image: FakeImage = registry.push(NAME, IMAGE, TAG)
    return image
