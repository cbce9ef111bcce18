"""A sink in memory."""

import asyncio

from node.errors import MismatchError


class MemorySink:
    """Keeps the bytes; `started` is set by the first of them. `begin` is there before."""

    def __init__(self, begin: bytes = b"", size: int | None = None) -> None:
        self.size = size
        self.data = bytearray(begin)
        self.offsets: list[int] = []
        self.started = asyncio.Event()

    @property
    def prefix(self) -> int:
        """How many bytes are here without a gap."""
        return len(self.data)

    def expect(self, size: int) -> None:
        """See `Sink`."""
        if self.size not in (None, size):
            raise MismatchError(f"{size} bytes are said, {self.size} were promised")
        self.size = size

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See `Sink`; only in order."""
        assert self.size is not None, "a size comes before the first byte"
        if offset + len(data) > self.size:
            raise MismatchError("more bytes than promised")
        assert offset == len(self.data)
        self.offsets.append(offset)
        self.data += data
        self.started.set()
