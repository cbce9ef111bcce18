"""Files that an operator names: regular ones only, and read no further than a bound."""

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from node.errors import InvalidError

MOST_BYTES: Final = 1 << 20


class Contents(NamedTuple):
    """What one file holds, and its permission bits; both are of the same file, whatever is renamed meanwhile."""

    data: bytes
    mode: int


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> Contents:
    """Read a file whole; a FIFO or a device is refused without waiting for it.

    Raises:
        InvalidError: the end of a sentence that begins with what file it is (`is no regular file`).
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidError("is no regular file")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise InvalidError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > most_bytes:
        raise InvalidError(f"is larger than {most_bytes // 1024} KiB")
    return Contents(data, stat.S_IMODE(mode))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
