"""What tests are held to, in this process or one of their own: no blocked event loop, nothing left behind."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blockbuster import BlockBuster

GRACE_S = 2.0
_UNREMARKABLE = ("/dev/", "/proc/", "pipe:", "anon_inode:", "/memfd:")


@contextmanager
def no_blocked_loop() -> Iterator[None]:
    """Calls from our packages that would block the event loop raise `BlockingError`.

    Imports may read files, and logs be written. Locks are not looked at: how long one is held depends on the load.
    """
    guard = BlockBuster(["node", "cluster", "facade"])
    guard.functions = {name: each for name, each in guard.functions.items() if not name.startswith("threading.")}
    for each in guard.functions.values():
        each.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
        each.can_block_in("structlog/_output.py", {"msg"})  # a log line is short
    guard.functions["os.sendfile"].can_block_in("node/sending.py", {"_at_once"})  # on a socket that never blocks
    guard.activate()
    yield
    guard.deactivate()


@contextmanager
def no_leaks() -> Iterator[None]:
    """Fail when the block leaves files or sockets open, or threads alive."""
    threads, files = set(threading.enumerate()), _open_files()
    yield
    left = _wait_for_none(lambda: _names(set(threading.enumerate()) - threads))
    assert not left, f"threads left alive: {left}"
    left = _wait_for_none(lambda: sorted(_open_files() - files))
    assert not left, f"files left open: {left}"


def _names(threads: set[threading.Thread]) -> list[str]:
    """An event loop ends the threads of its own pool when it is closed, which is not before a test's last fixture."""
    return sorted(thread.name for thread in threads if not thread.name.startswith("asyncio_"))


def _open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # the listing's own descriptor
        if not target.startswith(_UNREMARKABLE):
            found.add(f"{descriptor.name} {target}")
    return found


def _wait_for_none(look: Callable[[], list[str]]) -> list[str]:
    """What threads close, and what the collector frees, may take a moment."""
    deadline = time.monotonic() + GRACE_S
    while (left := look()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return left
