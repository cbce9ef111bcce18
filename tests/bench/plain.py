"""Writing a file and nothing else: what the disk and fresh memory cost before anybody hashes anything."""

import os
import time
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

from tests.bench.content import MIB


def write_plainly(file: Path, data: Iterable[bytes]) -> float:
    """Write `data` to a file and remove it; the seconds that writing took.

    A virtual machine may get its memory from the host only when it is first used, at a cost far above that of writing
    (measured: 0.2 to 3 s per GiB). Who is measured right behind this finds the memory there.
    """
    started = time.perf_counter()
    with file.open("wb", buffering=0) as target:
        for piece in data:
            target.write(piece)
    seconds = time.perf_counter() - started
    file.unlink()
    return seconds


def ready_memory(file: Path, size: int) -> None:
    """Have memory for `size` bytes of files here, and nothing left to write back: see `write_plainly`."""
    os.sync()
    write_plainly(file, repeat(bytes(MIB), size // MIB))
