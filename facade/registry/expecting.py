"""Bodies that clients send only once they are asked for them (RFC 9110, section 10.1.1)."""

from aiohttp import HttpVersion11, hdrs, web

from facade.registry.problems import Problem


def check_expected(request: web.BaseRequest) -> None:
    """Pass unless the client expects something that is not known here.

    Raises:
        Problem: 417.
    """
    expected = _expected(request)
    if expected not in (None, "100-continue"):
        raise Problem(417, "UNSUPPORTED", f"Expect: {expected[:80]!r} is not known here")


async def invite_body(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body: once, before the first byte is read."""
    if _expected(request) is not None:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what is counted is the answer


def _expected(request: web.BaseRequest) -> str | None:
    expected = request.headers.get(hdrs.EXPECT)
    return None if expected is None or request.version < HttpVersion11 else expected.lower()
