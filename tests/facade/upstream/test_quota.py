"""Limits that upstreams set: kept, and told."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.quota import Quota, Quotas, read_quota
from node.errors import ThrottledError
from node.reference import DOCKER_HUB, Repository, Tag
from node.source import Wanted
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Bearer
from tests.fakes.sinks import MemorySink

TAG = Tag("latest")


@pytest.fixture
def now() -> list[float]:
    """A time that the test sets."""
    return [1000.0]


@pytest.fixture
async def upstreams(registry: FakeRegistry, now: list[float]) -> AsyncIterator[Upstreams]:
    config = UpstreamConfig.parse(NAMESPACE, registry.url, public=True)
    async with Upstreams([config], limits=LIMITS, clock=lambda: now[0]) as upstreams:
        yield upstreams


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("quota", (10,)), "latest")


@pytest.mark.parametrize("how", ["seconds", "date"])
async def test_who_asks_for_patience_is_not_asked_before_that_time(
    registry: FakeRegistry, upstreams: Upstreams, now: list[float], image: FakeImage, how: str
) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=61), usegmt=True)
    registry.fault("manifests", "*", Fault(status=429, retry_after="60" if how == "seconds" else at, times=1))
    for passed_s in (0.0, 30.0, 29.0):
        now[0] += passed_s
        with pytest.raises(ThrottledError) as caught:
            await upstreams.resolve(REPOSITORY, TAG)
        assert caught.value.retry_after_s == pytest.approx(1060 - now[0], abs=1.5)
        assert len(registry.requests) == 1
    now[0] += 2.5
    assert (await upstreams.resolve(REPOSITORY, TAG)).descriptor.digest == image.manifest.digest


@pytest.mark.parametrize(
    ("namespace", "quota", "asked"),
    [(NAMESPACE, None, 2), (NAMESPACE, ("100;w=21600", "0;w=21600"), 1), (DOCKER_HUB, None, 1)],
)
async def test_a_limit_holds_up_another_repository_only_where_it_counts_all_of_them(
    registry: FakeRegistry, namespace: str, quota: tuple[str, str] | None, asked: int
) -> None:
    one, other = Repository(namespace, "team/app"), Repository(namespace, "team/other")
    registry.push("team/other", make_image("quota", (10,)), "latest")
    registry.fault("manifests", "*", Fault(status=429, retry_after="60", quota=quota, times=1))
    async with Upstreams([UpstreamConfig.parse(namespace, registry.url, public=True)], limits=LIMITS) as upstreams:
        for _ in range(2):
            with pytest.raises(ThrottledError):
                await upstreams.resolve(one, TAG)
        with suppress(ThrottledError):
            await upstreams.resolve(other, TAG)
    assert len(registry.requests) == asked


async def test_a_limit_on_manifests_holds_no_blob_of_a_pull_that_began(
    registry: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    registry.fault("manifests", "*", Fault(status=429, retry_after="60"))
    with pytest.raises(ThrottledError):
        await upstreams.resolve(REPOSITORY, TAG)
    layer, sink = image.layers[0], MemorySink()
    await upstreams.fill(Wanted(REPOSITORY, layer.digest, layer.size), sink)
    assert bytes(sink.data) == layer.data


@pytest.mark.parametrize("retry_after", [None, "soon", "0"])
async def test_who_does_not_say_how_long_is_asked_with_the_next_question(
    registry: FakeRegistry, upstreams: Upstreams, image: FakeImage, retry_after: str | None
) -> None:
    registry.fault("manifests", "*", Fault(status=429, retry_after=retry_after, times=1))
    with pytest.raises(ThrottledError):
        await upstreams.resolve(REPOSITORY, TAG)
    await upstreams.resolve(REPOSITORY, TAG)


async def test_a_token_service_that_asks_for_patience_is_not_asked_before_that_time(
    registry: FakeRegistry, upstreams: Upstreams, now: list[float], image: FakeImage
) -> None:
    registry.auth = Bearer()
    registry.fault("token", "*", Fault(status=429, retry_after="60", times=1))
    for _ in range(3):
        with pytest.raises(ThrottledError):
            await upstreams.resolve(REPOSITORY, TAG)
    assert len(registry.asked("token")) == 1
    now[0] += 61
    await upstreams.resolve(REPOSITORY, TAG)


async def test_a_limit_proves_nothing_public(registry: FakeRegistry, upstreams: Upstreams, image: FakeImage) -> None:
    registry.fault("manifests", "*", Fault(status=429, retry_after="60", times=1))
    for _ in range(2):
        with pytest.raises(ThrottledError):
            await upstreams.prove_public(REPOSITORY, image.manifest.digest)


async def test_what_is_left_is_kept_as_it_was_last_told(
    registry: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    for remaining in ("76;w=21600", "75;w=21600"):
        registry.fault("manifests", "*", Fault(quota=("100;w=21600", remaining)))
        await upstreams.resolve(REPOSITORY, TAG)
    ((endpoint, anonymous),) = upstreams.quotas
    assert (endpoint.namespace, anonymous) == (NAMESPACE, True)
    assert upstreams.quotas[endpoint, anonymous] == Quota(100, 75)


@pytest.mark.parametrize(
    ("headers", "quota"),
    [
        ({"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}, Quota(100, 76)),
        ({"RateLimit-Limit": "100, 100;w=21600", "RateLimit-Remaining": " 0 "}, Quota(100, 0)),
        ({"RateLimit-Remaining": "5"}, Quota(None, 5)),
        ({"RateLimit-Remaining": "-5", "RateLimit-Limit": "many"}, None),
        ({}, None),
    ],
)
def test_limits_are_read_as_docker_hub_sends_them(headers: dict[str, str], quota: Quota | None) -> None:
    assert read_quota(headers) == quota


def test_the_patience_of_any_number_of_logins_takes_no_more_room(now: list[float]) -> None:
    quotas = Quotas(lambda: now[0])
    for login in range(5000):
        quotas.hold(login, 60.0 + login)
    assert len(quotas._until) == 4096
    with pytest.raises(ThrottledError):
        quotas.check(4999, "upstream")
