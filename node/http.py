"""HTTP pieces that every server here shares: byte ranges (RFC 9110, section 14) and bodies sent by the kernel."""

from typing import Protocol

from aiohttp import web

from node.errors import InvalidError


class RangeError(InvalidError):
    """A range that lies outside the `size` bytes there are: answer 416 with `Content-Range: bytes */size`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Range: it lies outside the {size} bytes there are")
        self.size = size


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes asked for, never empty; None for all of them, as for several ranges or a malformed header.

    Raises:
        RangeError: when the range is unsatisfiable.
    """
    raise NotImplementedError


class FileRange(web.StreamResponse):
    """A 200, or 206 for a part, whose body is `wanted` (all when None) of the `size` bytes from `offset` on of a file.

    The file must stay open until `prepare` returns.
    """

    def __init__(
        self,
        file: HasFileno,
        size: int,
        *,
        wanted: range | None = None,
        offset: int = 0,
        content_type: str = "application/octet-stream",
        headers: dict[str, str] | None = None,
    ) -> None:
        raise NotImplementedError
