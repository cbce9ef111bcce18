"""What answers say of the part of a blob that they hold: checked against what was asked for."""

import re
from typing import Final, NamedTuple

from facade.upstream.wire import Answer
from node.errors import MismatchError, UnreachableError

_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")


class ContradictionError(MismatchError):
    """Before its first byte: what an endpoint says of a blob contradicts itself, or what is known of the blob."""


class Span(NamedTuple):
    """A Content-Range (RFC 9110, section 14.4): `start` up to `stop` of `total` bytes; of a 416, `total` only."""

    start: int
    stop: int
    total: int | None


def parse_content_range(header: str | None) -> Span | None:
    """None when it is missing or malformed."""
    match = _CONTENT_RANGE.fullmatch((header or "").strip())
    if match is None:
        return None
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return Span(0, 0, total)
    start, stop = int(match[1]), int(match[2]) + 1
    if stop <= start or (total is not None and stop > total):
        return None
    return Span(start, stop, total)


def span_of(answer: Answer, start: int) -> tuple[int, int | None]:
    """Where a body that was asked for from `start` on really starts (there, or at 0), and the blob's size if told.

    Raises:
        ContradictionError: when it is another part, or lengths contradict each other.
    """
    if answer.status == 200:
        return 0, answer.length
    span = parse_content_range(answer.headers.get("Content-Range"))
    if answer.status == 206 and span is not None and span.start == start:
        if answer.length in (None, span.stop - span.start):
            return start, span.total
        raise ContradictionError(
            f"{answer.url.host} sends {answer.length} bytes as a range of {span.stop - span.start}"
        )
    raise ContradictionError(
        f"{answer.url.host} was asked for bytes from {start} on and answers HTTP {answer.status} with "
        f"Content-Range {answer.headers.get('Content-Range', '')[:80]!r}"
    )


def size_from_range(answer: Answer) -> int:
    """The blob's size from an answer to `Range: bytes=0-0`.

    Raises:
        UnreachableError: when it does not tell it.
    """
    span = parse_content_range(answer.headers.get("Content-Range")) if answer.status in (206, 416) else None
    size = answer.length if answer.status == 200 else span.total if span else None
    if size is None:
        raise UnreachableError(f"{answer.url.host} does not tell the blob's size")
    return size
