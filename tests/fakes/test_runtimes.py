"""The fake runtimes do with a mirror what the real ones were seen to do."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Bearer
from tests.fakes.runtimes.containerd import ContainerdLike
from tests.fakes.runtimes.docker import DockerLike
from tests.fakes.runtimes.line import FailedError, Host, Line, Patience
from tests.fakes.runtimes.podman import PodmanLike
from tests.fakes.runtimes.runtime import Runtime

RUNTIMES: dict[str, Callable[[Sequence[Host]], Runtime]] = {
    "containerd": ContainerdLike,
    "docker": DockerLike,
    "podman": PodmanLike,
}


@pytest.fixture
async def mirror() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as one:
        yield one


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as one:
        yield one


@pytest.fixture
def image(mirror: FakeRegistry, upstream: FakeRegistry) -> FakeImage:
    upstream.push("team/app", make_image("runtimes", (400_000, 100_000)), "v1")
    return mirror.push("team/app", make_image("runtimes", (400_000, 100_000)), "v1")


def _truth(image: FakeImage) -> dict[str, bytes]:
    named = {str(blob.digest): blob.data for blob in (image.manifest, *image.blobs)}
    return {"v1": image.manifest.data, **named}


async def _pull(runtime: str, image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry) -> tuple[str, Line]:
    """How a pull ends: `whole`, or the stage that failed."""
    hosts = [Host(mirror.url, is_mirror=True), Host(upstream.url)]
    patience = Patience(headers_s=0.5, body_s=0.5, pause_s=0.01, config_pause_s=0.01, second_s=0.0)
    async with Line(patience, _truth(image)) as line:
        try:
            pulled = await RUNTIMES[runtime](hosts).pull(line, "team/app", "v1")
        except FailedError as error:
            return error.stage, line
        right = pulled.manifest == image.manifest.data and {*pulled.blobs} == {str(one.digest) for one in image.blobs}
        return "whole" if right else "wrong", line


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_from_a_good_mirror_all_comes_from_it(
    runtime: str, image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry
) -> None:
    how, _ = await _pull(runtime, image, mirror, upstream)
    assert how == "whole" and not upstream.requests


@pytest.mark.parametrize(
    ("fault", "containerd", "docker", "podman"),
    [
        (Fault(status=404), "whole", "whole", "blobs"),
        (Fault(status=500), "whole", "whole", "blobs"),
        (Fault(status=429), "whole", "whole", "blobs"),
        (Fault(cut_after=300_000), "whole", "whole", "blobs"),
        (Fault(cut_after=0), "blobs", "whole", "blobs"),
        (Fault(flip_at=10), "blobs", "whole", "blobs"),
        (Fault(stall_after=10_000), "blobs", "whole", "blobs"),
    ],
    ids=["404", "500", "429", "cut", "cut at once", "wrong bytes", "stall"],
)
@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_what_a_mirror_does_with_a_blob_ends_as_with_the_real_ones(
    runtime: str,
    image: FakeImage,
    mirror: FakeRegistry,
    upstream: FakeRegistry,
    fault: Fault,
    containerd: str,
    docker: str,
    podman: str,
) -> None:
    mirror.fault("blobs", image.layers[0].digest, fault)
    how, _ = await _pull(runtime, image, mirror, upstream)
    assert how == {"containerd": containerd, "docker": docker, "podman": podman}[runtime]
    mirror.heal()


@pytest.mark.parametrize(
    ("fault", "ranges"),
    [
        (Fault(cut_after=150_000), ["", "bytes=150000-", "bytes=300000-"]),
        (Fault(cut_after=50_000), ["", *(f"bytes={50_000 * tried}-" for tried in range(1, 6))]),
        (Fault(status=500), [""] * 6),
        (Fault(flip_at=10), [""]),
    ],
    ids=["cuts", "more cuts than it bears", "500", "wrong bytes"],
)
async def test_docker_asks_six_times_for_a_layer(
    image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry, fault: Fault, ranges: list[str]
) -> None:
    layer = image.layers[0].digest
    mirror.fault("blobs", layer, fault)
    how, _ = await _pull("docker", image, mirror, upstream)
    assert how == "whole"
    assert [seen.headers.get("Range", "") for seen in mirror.asked("blobs", "GET", layer)] == ranges


async def test_docker_begins_a_layer_anew_where_a_range_is_refused(
    image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry
) -> None:
    layer = image.layers[0].digest
    mirror.fault("blobs", layer, Fault(cut_after=100_000, times=1))
    mirror.fault("blobs", "*", Fault(status=404, ranged=True))
    how, _ = await _pull("docker", image, mirror, upstream)
    assert how == "whole" and not upstream.asked("blobs")


async def test_docker_asks_five_times_for_a_config_and_for_all_of_it(
    image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry
) -> None:
    mirror.fault("blobs", image.config.digest, Fault(cut_after=10))
    how, _ = await _pull("docker", image, mirror, upstream)
    asked = mirror.asked("blobs", "GET", image.config.digest)
    assert how == "whole" and len(asked) == 5 and not any("Range" in seen.headers for seen in asked)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("status", [404, 500, 401, 429])
async def test_without_the_mirrors_manifest_all_go_to_the_registry(
    runtime: str, image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry, status: int
) -> None:
    mirror.fault("manifests", "*", Fault(status=status))
    how, _ = await _pull(runtime, image, mirror, upstream)
    assert how == "whole"


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_mirror_that_passes_off_wrong_bytes_or_hangs_is_seen(
    runtime: str, image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry
) -> None:
    mirror.fault("blobs", image.layers[0].digest, Fault(flip_at=10))
    mirror.fault("blobs", image.layers[1].digest, Fault(silent=True))
    _, line = await _pull(runtime, image, mirror, upstream)
    assert line.observed.passed_off or line.observed.stuck
    mirror.heal()


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_gzip_and_an_expired_token_are_dealt_with(
    runtime: str, image: FakeImage, mirror: FakeRegistry, upstream: FakeRegistry
) -> None:
    await mirror.stop()
    upstream.auth, upstream.tokens_last = Bearer(), 3
    upstream.fault("blobs", "*", Fault(encoding="gzip"))
    how, _ = await _pull(runtime, image, mirror, upstream)
    assert how == "whole"
