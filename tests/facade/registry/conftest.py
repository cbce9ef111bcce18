"""What the registry's wire tests share: a fake upstream, and a node in front of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.facade.machine import Machine, machine
from tests.fakes.registry import FakeRegistry


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    async with machine(tmp_path / "a", registry, namespaces=("docker.io", "ghcr.io")) as one:
        yield one
