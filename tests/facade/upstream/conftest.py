"""A fake registry, and a client of it, for every test that wants them."""

from collections.abc import AsyncIterator

import pytest

from facade.upstream.client import Limits, Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.retry import Backoff
from node.reference import Repository
from tests.fakes.registry import FakeRegistry

RETRY = Backoff(tries=3, first_s=0.01, most_s=0.02, within_s=1)
LIMITS = Limits(
    connect_s=2, headers_s=2, turn_s=0.5, stall_s=0.3, resume_s=2, hurry_s=1, document_s=2, aside_s=5, retry=RETRY
)
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
