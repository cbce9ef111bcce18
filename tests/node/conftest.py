"""A store of its own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.store import Store, open_store
from tests.node.contents import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "data", clock=clock) as opened:
        yield opened
