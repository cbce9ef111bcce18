"""How the process takes memory from the system, and gives it back."""

import ctypes
import gc
from typing import Final

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3
_SETTINGS: Final = {_MMAP_THRESHOLD: 4 << 20, _TRIM_THRESHOLD: 32 << 20, _TOP_PAD: 1 << 20}


def keep_freed() -> bool:
    """Let freed memory stay with the process, up to 32 MiB, for the pieces of bodies that come next; see mallopt(3).

    By default it goes back to the system at once, and each piece read from a socket takes a page fault per 4 KiB.
    False where the C library is another than glibc, and knows no such settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(min(mallopt(name, value) for name, value in _SETTINGS.items()))


def spare_the_collector() -> None:
    """What is loaded by now is never collected: going over it would hold the event loop for 15 ms each time."""
    gc.freeze()
