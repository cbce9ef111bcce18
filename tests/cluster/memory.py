"""A sink in memory."""

import asyncio

from node.errors import LayermeshError, MismatchError
from node.source import LeafWriter
from node.unixfs import Dag


class MemorySink:
    """Keeps what is written; fails as told. Threads may write leaves when it `takes_leaves`."""

    def __init__(self, data: bytes = b"", refuse: LayermeshError | None = None, *, takes_leaves: bool = True) -> None:
        self.size: int | None = None
        self.data = bytearray(data)
        self.here: set[int] = set(range(len(data)))
        self.trusted: Dag | None = None
        self.writes: list[tuple[int, int]] = []
        self.first_write = asyncio.Event()
        self._refuse = refuse
        self._takes_leaves = takes_leaves
        self._start = len(data)

    @property
    def prefix(self) -> int:
        at = self._start
        for offset, length in sorted(self.writes):
            if offset > at:
                break
            at = max(at, offset + length)
        return at

    def expect(self, size: int) -> None:
        if self.size not in (None, size):
            raise MismatchError(f"size {size} is not the {self.size} promised before")
        self.size = size
        self.data.extend(bytes(size - len(self.data)))

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        self._place(offset, memoryview(data))
        await self.landed(offset, len(data))

    async def trust(self, dag: Dag) -> LeafWriter | None:
        self.trusted = dag
        return self._place if self._takes_leaves and not self._start else None

    async def landed(self, offset: int, length: int) -> None:
        await asyncio.sleep(0)
        self.writes.append((offset, length))
        self.first_write.set()

    def _place(self, offset: int, leaf: memoryview) -> None:
        if self._refuse is not None:
            raise self._refuse
        self.data[offset : offset + len(leaf)] = leaf
