"""Files that an operator may change while the node runs."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import structlog

from node.errors import LayermeshError

log = structlog.get_logger(__name__)
T = TypeVar("T")
LOOK_EVERY_S: Final = 2.0
_Marks = tuple[tuple[int, ...] | None, ...]


async def follow(
    paths: Sequence[Path], read: Callable[[], T], take: Callable[[T], None], every_s: float = LOOK_EVERY_S
) -> None:
    """Hand what `read` makes of the files to `take` whenever one of them has changed, until cancelled.

    `read` runs in a thread. While it raises a `LayermeshError`, what was taken last stays; that is logged once.
    """
    seen: _Marks | None = None
    while True:
        await asyncio.sleep(every_s)
        marks = await asyncio.to_thread(_marks, paths)
        if marks == seen:
            continue
        try:
            take(await asyncio.to_thread(read))
        except LayermeshError as error:
            log.warning("a changed file is not used, what it held before still holds", why=str(error))
        else:
            if seen is not None:
                log.info("a changed file was read anew", files=[str(path) for path in paths])
        seen = marks


def _marks(paths: Sequence[Path]) -> _Marks:
    """What tells one state of the files from another; None for a file that cannot be looked at."""
    marks: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            marks.append(None)
        else:
            marks.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return tuple(marks)
