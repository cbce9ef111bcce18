"""HTTP pieces that every server here shares: byte ranges (RFC 9110, section 14) and bodies sent by the kernel."""

import re
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from node.errors import InvalidError
from node.sending import HasFileno, file_sender

_ONE_RANGE: Final = re.compile(r"(?i:bytes)[ \t]*=[ \t,]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t,]*")


class RangeError(InvalidError):
    """A range that lies outside the `size` bytes there are: answer 416 with `Content-Range: bytes */size`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Range: it lies outside the {size} bytes there are")
        self.size = size


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes asked for, never empty; None for all of them, as for several ranges or a malformed header.

    Raises:
        RangeError: when the range is unsatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
        if not size and int(last):
            return None  # the last bytes of nothing are nothing, which no 206 can say
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeError(size)
    return range(start, stop)


class FileRange(web.StreamResponse):
    """A 200, or 206 for a part, whose body is `wanted` (all when None) of the `size` bytes from `offset` on of a file.

    The kernel copies from the file to the socket; where it cannot (TLS), a thread reads. The file must stay open until
    `prepare` returns. `sent` says afterwards how many bytes of the body were handed over.
    """

    def __init__(
        self,
        file: HasFileno,
        size: int,
        *,
        wanted: range | None = None,
        offset: int = 0,
        content_type: str = "application/octet-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status=200 if wanted is None else 206, headers=headers)
        self._file = file
        self._range = range(size) if wanted is None else wanted
        self._offset = offset
        self.sent = 0
        self.content_type = content_type
        self.content_length = len(self._range)
        self.headers["Accept-Ranges"] = "bytes"
        if wanted is not None:
            self.headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head, and the body if there is one.

        Raises:
            ConnectionError: when the client went away, or the file cannot be read to its end; the connection is cut.
        """
        writer = await super().prepare(request)
        count = len(self._range)
        if writer is None or not count or request.method == "HEAD":
            return writer
        await self._send(request, writer, self._offset + self._range.start, count)
        await super().write_eof()
        return writer

    async def _send(self, request: web.BaseRequest, writer: AbstractStreamWriter, start: int, count: int) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        sender = file_sender(transport, writer.write, self._file, start, count)
        try:
            await sender.run()
        finally:
            self.sent = sender.sent
            if self.sent != count:
                transport.close()  # else another answer would follow in the middle of this one
        if self.sent != count:
            raise ConnectionResetError(f"the file ended after {self.sent} of {count} bytes")
