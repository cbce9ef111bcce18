"""When upstream is asked again: the decision, and what is seen of it on the wire."""

import pytest

from facade.upstream.client import Upstreams
from facade.upstream.retry import Backoff, FutileError, may_pass
from node.errors import DeniedError, LayermeshError, MismatchError, NotFoundError, ThrottledError, UnreachableError
from node.reference import Tag
from tests.facade.upstream.conftest import LIMITS, REPOSITORY
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
