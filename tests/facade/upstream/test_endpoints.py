"""A namespace that is reached in several places."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from facade.upstream.breaker import BreakerState
from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from node.errors import DeniedError, NotFoundError, UnreachableError
from node.reference import Tag
from node.source import Wanted
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic, Bearer
from tests.fakes.sinks import MemorySink

TAG = Tag("latest")
BYTES = 1_000_000


@pytest.fixture
async def mirror() -> AsyncIterator[FakeRegistry]:
    """The endpoint named first."""
    async with FakeRegistry() as mirror:
        yield mirror


@pytest.fixture
def image(registry: FakeRegistry, mirror: FakeRegistry) -> FakeImage:
    """What both have."""
    image = make_image("endpoints", (BYTES,))
    mirror.push("team/app", image, "latest")
    return registry.push("team/app", image, "latest")


@pytest.fixture
def config(registry: FakeRegistry, mirror: FakeRegistry) -> UpstreamConfig:
    return UpstreamConfig.parse(NAMESPACE, mirror.url, registry.url, public=True)


@pytest.fixture
async def upstreams(config: UpstreamConfig) -> AsyncIterator[Upstreams]:
    async with Upstreams([config], limits=LIMITS) as upstreams:
        yield upstreams


async def test_the_first_one_answers_alone(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert (len(mirror.requests), len(registry.requests)) == (1, 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=404),
        Fault(status=401),
        Fault(status=403),
        Fault(status=429, retry_after="600"),
        Fault(reset=True),
        Fault(silent=True),
        Fault(encoding="br"),
    ],
)
async def test_the_next_one_answers_where_the_first_does_not(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage, fault: Fault
) -> None:
    mirror.fault("manifests", "*", fault)
    async with asyncio.timeout(LIMITS.turn_s + 1):
        assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert len(registry.requests) == 1


async def test_what_all_of_them_fail_with_is_what_the_last_one_says(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams
) -> None:
    mirror.fault("manifests", "*", Fault(status=500))
    with pytest.raises(NotFoundError):
        await upstreams.manifest(REPOSITORY, TAG)
    mirror.fault("manifests", "*", Fault(status=404))
    registry.fault("manifests", "*", Fault(status=500))
    with pytest.raises(UnreachableError):
        await upstreams.manifest(REPOSITORY, TAG)
    mirror.fault("manifests", "*", Fault(status=500))
    registry.fault("manifests", "*", Fault(status=403))
    with pytest.raises(DeniedError):
        await upstreams.manifest(REPOSITORY, TAG)


@pytest.mark.parametrize("fault", [Fault(cut_after=400_000), Fault(stall_after=400_000), Fault(stall_after=0)])
async def test_a_body_that_breaks_goes_on_from_its_last_byte_at_the_next_one(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage, fault: Fault
) -> None:
    layer, sink = image.layers[0], MemorySink()
    mirror.fault("blobs", layer.digest, fault)
    await upstreams.fill(Wanted(REPOSITORY, layer.digest, layer.size), sink)
    assert bytes(sink.data) == layer.data
    assert len(mirror.requests) == 1
    assert registry.sent[str(layer.digest)] == layer.size - mirror.sent[str(layer.digest)]


@pytest.mark.parametrize("fault", [Fault(data=b"other"), Fault(length=5), Fault(encoding="br")])
async def test_one_that_contradicts_what_is_known_of_a_blob_gives_way_to_the_next(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage, fault: Fault
) -> None:
    layer, sink = image.layers[0], MemorySink()
    mirror.fault("blobs", layer.digest, fault)
    await upstreams.fill(Wanted(REPOSITORY, layer.digest, layer.size), sink)
    assert bytes(sink.data) == layer.data


async def test_a_manifest_that_breaks_off_comes_from_the_next_one(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    mirror.fault("manifests", "*", Fault(cut_after=10))
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert (len(mirror.requests), len(registry.requests)) == (1, 1)


async def test_a_body_that_drips_goes_on_at_the_next_one(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    layer, sink = image.layers[0], MemorySink()
    mirror.fault("blobs", layer.digest, Fault(drip=(1000, 0.05)))
    async with asyncio.timeout(10):
        await upstreams.fill(Wanted(REPOSITORY, layer.digest, layer.size), sink)
    assert bytes(sink.data) == layer.data
    assert (len(mirror.requests), len(registry.requests)) == (1, 1)


async def test_one_that_drips_is_better_than_none(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    data = image.layers[0].data[:20_000]
    digest = mirror.put_blob("team/app", data)
    for each in (mirror, registry):
        each.put_blob("team/app", data)
        each.fault("blobs", digest, Fault(drip=(1000, 0.05)))
    sink = MemorySink()
    await upstreams.fill(Wanted(REPOSITORY, digest, len(data)), sink)
    assert bytes(sink.data) == data
    assert (len(mirror.requests), len(registry.requests)) == (1, 1)


async def test_one_whose_bodies_stall_is_asked_last(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    mirror.fault("blobs", "*", Fault(stall_after=1))
    for blob in image.blobs * 2:
        await upstreams.fill(Wanted(REPOSITORY, blob.digest, blob.size), MemorySink())
    assert len(mirror.requests) == 1


async def test_one_that_is_silent_costs_its_turn_once(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, config: UpstreamConfig, image: FakeImage
) -> None:
    mirror.silent = True
    await upstreams.manifest(REPOSITORY, TAG)
    assert [upstreams.breaker(each) for each in config.endpoints] == [BreakerState.OPEN, BreakerState.CLOSED]
    assert upstreams.available(NAMESPACE)
    for _ in range(3):
        await upstreams.manifest(REPOSITORY, TAG)
    assert (len(mirror.requests), len(registry.requests)) == (1, 4)


async def test_one_whose_breaker_is_open_is_asked_where_the_others_fail(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    mirror.fault("manifests", "*", Fault(silent=True, times=1))
    await upstreams.manifest(REPOSITORY, TAG)
    await registry.stop()
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest


async def test_who_gives_up_waiting_for_a_silent_one_opens_its_breaker(
    registry: FakeRegistry, config: UpstreamConfig
) -> None:
    registry.silent = True
    limits = LIMITS.__class__(connect_s=0.1, headers_s=20.0)
    alone = UpstreamConfig.parse(NAMESPACE, registry.url)
    async with Upstreams([alone], limits=limits) as upstreams:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await upstreams.resolve(REPOSITORY, TAG)
        assert not upstreams.available(NAMESPACE)


async def test_each_endpoint_has_its_own_token_and_login(
    registry: FakeRegistry, mirror: FakeRegistry, config: UpstreamConfig, image: FakeImage
) -> None:
    mirror.auth, registry.auth = Basic({"me": "mirror"}), Bearer({"me": "origin"}, frozenset({"team/app"}))
    credentials = Credentials({(mirror.address, ""): Login("me", "no"), (registry.address, ""): Login("me", "origin")})
    async with Upstreams([config], credentials=credentials, limits=LIMITS) as upstreams:
        assert not (await upstreams.manifest(REPOSITORY, TAG)).anonymous
        assert [seen.kind for seen in registry.requests] == ["manifests", "token", "manifests"]
        assert not any("Bearer" in seen.headers.get("Authorization", "") for seen in mirror.requests)


async def test_one_that_asks_to_be_left_alone_is_left_alone_while_another_is_asked_again(
    registry: FakeRegistry, mirror: FakeRegistry, upstreams: Upstreams, image: FakeImage
) -> None:
    mirror.fault("manifests", "*", Fault(status=503, retry_after="30"))
    registry.fault("manifests", "*", Fault(status=500, times=2))
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert (len(mirror.requests), len(registry.requests)) == (1, 3)
