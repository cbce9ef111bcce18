"""What every test is held to: no blocked event loop, nothing left behind."""

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

_GRACE_S = 2.0
settings.register_profile("patient", deadline=None)  # how long an example takes depends on the machine's load
settings.load_profile("patient")
_UNREMARKABLE = ("/dev/", "/proc/", "pipe:", "anon_inode:", "/memfd:")


@pytest.fixture(scope="session", autouse=True)
def _a_blocked_loop_fails() -> Iterator[None]:
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


@pytest.fixture(autouse=True)
def _leaks_fail() -> Iterator[None]:
    """A test that leaves files or sockets open, or threads alive, fails."""
    threads, files = set(threading.enumerate()), _open_files()
    yield
    left = _wait_for_none(lambda: _names(set(threading.enumerate()) - threads))
    assert not left, f"threads left alive: {left}"
    left = _wait_for_none(lambda: sorted(_open_files() - files))
    assert not left, f"files left open: {left}"


@pytest.fixture
async def _pending_tasks_fail(_leaks_fail: None) -> AsyncIterator[None]:
    """A test that leaves tasks running fails; it is set up first, and so looks last."""
    yield
    mine = asyncio.current_task()
    pending = {task for task in asyncio.all_tasks() if task is not mine}
    if pending:
        _, pending = await asyncio.wait(pending, timeout=_GRACE_S)
    assert not pending, f"tasks left running: {pending}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only tests with an event loop can leave tasks in it."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "_pending_tasks_fail")


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
    deadline = time.monotonic() + _GRACE_S
    while (left := look()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return left
