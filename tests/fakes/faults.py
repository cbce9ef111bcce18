"""What can go wrong in one answer of a fake server, and how its body is sent then."""

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

_PIECE_BYTES = 256 * 1024


@dataclass(slots=True)
class Fault:
    """One misbehaviour; fields combine. `times` is how many more requests it befalls (None: all).

    `ranged`: only requests with a Range header (True) or without one (False). Offsets count bytes of this very body.
    """

    status: int | None = None
    retry_after: str | None = None
    quota: tuple[str, str] | None = None
    """The `ratelimit-limit` and `ratelimit-remaining` said."""
    silent: bool = False
    """Accepts the request and never answers."""
    reset: bool = False
    """Drops the connection before any header."""
    stall_after: int | None = None
    cut_after: int | None = None
    drip: tuple[int, float] | None = None
    """Pieces of so many bytes, so many seconds apart."""
    flip_at: int | None = None
    data: bytes | None = None
    """Sent in place of the content."""
    length: int | None = None
    """The Content-Length said, whatever is sent."""
    chunked: bool = False
    """No Content-Length."""
    encoding: str | None = None
    """`gzip` really compresses; other words are only said."""
    no_digest: bool = False
    digest: str | None = None
    """The Docker-Content-Digest said."""
    media_type: str | None = None
    location: str | None = None
    """Redirects there; as it is, never quoted."""
    redirect_status: int = 307
    ignore_range: bool = False
    content_range: str | None = None
    method: str | None = None
    ranged: bool | None = None
    times: int | None = None

    def befalls(self, request: web.BaseRequest) -> bool:
        """Whether it happens to this request; counts it."""
        if self.method not in (None, request.method):
            return False
        if self.ranged is not None and self.ranged != ("Range" in request.headers):
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0

    def spoil(self, data: bytes) -> bytes:
        """The bytes that are sent instead of `data`."""
        if self.data is not None:
            data = self.data
        if self.flip_at is not None:
            data = data[: self.flip_at] + bytes([data[self.flip_at] ^ 1]) + data[self.flip_at + 1 :]
        return gzip.compress(data) if self.encoding == "gzip" else data

    def limits(self) -> dict[str, str]:
        """The headers that say how much may be asked."""
        if self.quota is None:
            return {}
        return {"ratelimit-limit": self.quota[0], "ratelimit-remaining": self.quota[1]}


NO_FAULT = Fault()


def encoded(answer: web.Response, fault: Fault) -> web.Response:
    """A whole answer, its body encoded as the fault says."""
    if fault.encoding is None:
        return answer
    body = answer.body
    assert isinstance(body, bytes), "a document, and no stream"
    return web.Response(status=answer.status, body=fault.spoil(body), headers={"Content-Encoding": fault.encoding})


async def send_body(
    request: web.BaseRequest,
    response: web.StreamResponse,
    data: bytes,
    fault: Fault,
    released: asyncio.Event,
    sent: Callable[[int], None],
) -> None:
    """Send `data` behind the headers as `fault` wants it; a stall, and the pauses of a drip, last until `released`."""
    if not fault.chunked:
        response.content_length = len(data) if fault.length is None else fault.length
    await response.prepare(request)
    if request.method == "HEAD":
        return
    stops = [offset for offset in (fault.stall_after, fault.cut_after) if offset is not None]
    view = memoryview(data)[: min(stops, default=len(data))]
    step, pause_s = fault.drip or (_PIECE_BYTES, 0.0)
    for start in range(0, len(view), step):
        await response.write(view[start : start + step])
        sent(len(view[start : start + step]))
        if pause_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(released.wait(), pause_s)
    if fault.stall_after is not None and len(view) < len(data):  # who has it all may use the connection again
        await released.wait()
    if request.transport is not None and (stops or (response.content_length or 0) > len(view)):
        request.transport.close()
