"""A fake registry, and a client of it, for every test that wants them."""

from collections.abc import AsyncIterator

import pytest

from facade.upstream.client import Limits, Upstreams
from facade.upstream.config import UpstreamConfig
from node.reference import Repository
from tests.fakes.registry import FakeRegistry

LIMITS = Limits(connect_s=2, headers_s=2, stall_s=0.3, hurry_s=1, document_s=2, aside_s=5)
NAMESPACE = "corp.test"
REPOSITORY = Repository(NAMESPACE, "team/app")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def upstreams(registry: FakeRegistry) -> AsyncIterator[Upstreams]:
    config = UpstreamConfig.parse(NAMESPACE, registry.url, public=True)
    async with Upstreams([config], limits=LIMITS) as upstreams:
        yield upstreams
