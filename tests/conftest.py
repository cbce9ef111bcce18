"""What every test is held to: no blocked event loop, nothing left behind."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.guards import GRACE_S, no_blocked_loop, no_leaks
from tests.kubo.daemon import Kubo, running_kubo

settings.register_profile("patient", deadline=None)  # how long an example takes depends on the machine's load
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _a_blocked_loop_fails() -> Iterator[None]:
    """See `no_blocked_loop`."""
    with no_blocked_loop():
        yield


@pytest.fixture(autouse=True)
def _leaks_fail() -> Iterator[None]:
    """A test that leaves files or sockets open, or threads alive, fails."""
    with no_leaks():
        yield


@pytest.fixture
async def _pending_tasks_fail(_leaks_fail: None) -> AsyncIterator[None]:
    """A test that leaves tasks running fails; it is set up first, and so looks last."""
    yield
    mine = asyncio.current_task()
    pending = {task for task in asyncio.all_tasks() if task is not mine}
    if pending:
        _, pending = await asyncio.wait(pending, timeout=GRACE_S)
    assert not pending, f"tasks left running: {pending}"


@pytest.fixture
def kubo(tmp_path: Path) -> Iterator[Kubo]:
    """A real Kubo on loopback, which nobody else knows of."""
    with running_kubo(tmp_path / "kubo") as daemon:
        yield daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only tests with an event loop can leave tasks in it."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "_pending_tasks_fail")
