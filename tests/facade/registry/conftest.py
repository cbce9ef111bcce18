"""What the registry's wire tests share: a fake upstream, a node in front of it, and one beside a member."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.facade.machine import Machine, machine
from tests.facade.members import SECRET, member
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    async with machine(tmp_path / "a", registry, namespaces=("docker.io", "ghcr.io")) as one:
        yield one


@pytest.fixture
async def beside(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[tuple[Machine, FakePeer]]:
    """A node that reads the log of a member who says what a test wants."""
    async with fake_peer(FakePeer(secret=SECRET)) as peer, member(tmp_path / "n", registry, peer) as node:
        yield node, peer
