"""When upstream is asked again: the decision, and what is seen of it on the wire."""

import asyncio
from dataclasses import replace

import pytest

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.retry import Backoff, BusyError, FutileError, asked_wait_s, may_pass
from node.errors import DeniedError, LayermeshError, MismatchError, NotFoundError, ThrottledError, UnreachableError
from node.reference import Tag
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry

TAG = Tag("latest")
BACKOFF = Backoff(tries=6, first_s=0.1, most_s=0.5, within_s=2.0)


def test_pauses_double_up_to_the_most_and_are_drawn_from_zero_on() -> None:
    assert [BACKOFF.pause_s(tried, 0.0, lambda: 1.0) for tried in range(1, 6)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert [BACKOFF.pause_s(tried, 0.0, lambda: 0.0) for tried in range(1, 6)] == [0.0] * 5


def test_tries_and_time_are_bounded() -> None:
    assert BACKOFF.pause_s(6, 0.0, lambda: 0.0) is None
    assert BACKOFF.pause_s(1, 1.85, lambda: 1.0) == 0.1
    assert BACKOFF.pause_s(1, 1.95, lambda: 1.0) is None


def test_no_try_begins_sooner_than_was_asked_for_and_none_later_than_the_limit() -> None:
    assert BACKOFF.pause_s(1, 0.0, lambda: 0.5, 1.0) == 1.05
    assert BACKOFF.pause_s(1, 0.0, lambda: 0.0, 2.0) is None
    assert asked_wait_s([BusyError("", 3.0), BusyError("", 1.0)]) == 1.0
    assert asked_wait_s([BusyError("", 3.0), UnreachableError()]) == 0.0


@pytest.mark.parametrize(
    ("failure", "passes"),
    [
        (UnreachableError(), True),
        (ThrottledError("", 1.0), False),
        (FutileError(), False),
        (NotFoundError(), False),
        (DeniedError(), False),
        (MismatchError(), False),
    ],
)
def test_only_what_may_pass_is_tried_again(failure: LayermeshError, passes: bool) -> None:
    assert may_pass(failure) is passes


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(reset=True), Fault(status=408)])
async def test_a_failure_that_passes_is_not_seen(registry: FakeRegistry, upstreams: Upstreams, fault: Fault) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    fault.times = LIMITS.retry.tries - 1
    registry.fault("manifests", "*", fault)
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert len(registry.requests) >= LIMITS.retry.tries


@pytest.mark.parametrize(
    ("fault", "error", "asked"),
    [
        (Fault(status=404), NotFoundError, 1),
        (Fault(status=403), DeniedError, 1),
        (Fault(status=401), DeniedError, 1),
        (Fault(status=429), ThrottledError, 1),
        (Fault(digest="nonsense"), MismatchError, 1),
        (Fault(status=500), UnreachableError, 3),
        (Fault(silent=True), UnreachableError, 1),
        (Fault(status=503, retry_after="30"), UnreachableError, 1),
        (Fault(status=503, retry_after="0"), UnreachableError, 3),
        (Fault(status=500, retry_after="30"), UnreachableError, 3),
    ],
)
async def test_what_does_not_pass_is_asked_once(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault, error: type[LayermeshError], asked: int
) -> None:
    registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", fault)
    with pytest.raises(error):
        await upstreams.manifest(REPOSITORY, TAG)
    assert len(registry.requests) == asked


async def test_a_503_is_left_alone_for_as_long_as_it_asks_where_that_is_short(registry: FakeRegistry) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", Fault(status=503, retry_after="1", times=1))
    limits = replace(LIMITS, retry=replace(LIMITS.retry, within_s=2.0))
    loop = asyncio.get_running_loop()
    async with Upstreams([UpstreamConfig.parse(NAMESPACE, registry.url, public=True)], limits=limits) as upstreams:
        began = loop.time()
        assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
        assert loop.time() - began >= 1.0
