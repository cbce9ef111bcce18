"""A sink in memory."""

import asyncio

from node.errors import LayermeshError, MismatchError
from node.unixfs import Dag


class MemorySink:
    """Keeps what is written; fails as told. `rewritten` counts bytes that came again."""

    def __init__(self, data: bytes = b"", refuse: LayermeshError | None = None) -> None:
        self.size: int | None = None
        self.data = bytearray(data)
        self.here: set[int] = set(range(len(data)))
        self.trusted: Dag | None = None
        self.writes: list[tuple[int, int]] = []
        self.first_write = asyncio.Event()
        self._refuse = refuse
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
        if self._refuse is not None:
            raise self._refuse
        await asyncio.sleep(0)
        self.data[offset : offset + len(data)] = data
        self.writes.append((offset, len(data)))
        self.first_write.set()

    def trust(self, dag: Dag) -> None:
        self.trusted = dag
