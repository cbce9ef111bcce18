"""Real container runtimes pull through a node with their own configuration, and unpack the right files."""

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import Node, start_nodes, wait_until_known, wait_until_met
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.runtimes.all import RUNTIMES, Starts
from tests.e2e.runtimes.runtime import AMD64, ARM64, Mirrors, Runtime, assert_unpacked, pull

pytestmark = pytest.mark.e2e


@pytest.fixture(params=RUNTIMES)
def kind(request: pytest.FixtureRequest) -> Starts:
    """One kind of runtime after the other."""
    return RUNTIMES[request.param]


@pytest.fixture
def node(network: Network, registry: Registry) -> Node:
    """A node that nobody else knows."""
    [node] = start_nodes(network, registry, "a")
    return node


@pytest.fixture
def runtime(kind: Starts, node: Node) -> Runtime:
    """A runtime on the node's machine."""
    return kind.start(node.host, Mirrors())


def test_a_tag_is_pulled_and_its_files_are_right(runtime: Runtime, library: Library) -> None:
    image = "docker.io/library/scene:1"
    pull(runtime, image)
    assert_unpacked(runtime, image, library.scene.images[0])


def test_a_digest_is_pulled_and_its_files_are_right(runtime: Runtime, library: Library) -> None:
    image = f"docker.io/library/small@{library.small.manifest.digest}"
    pull(runtime, image)
    assert_unpacked(runtime, image, library.small.images[0])


def test_each_platform_of_a_multi_platform_image_gets_its_own_files(runtime: Runtime, library: Library) -> None:
    image = "docker.io/library/small:1"
    for platform, content in zip((AMD64, ARM64), library.small.images, strict=True):
        pull(runtime, image, platform)
        assert_unpacked(runtime, image, content, platform)


def test_with_the_upstream_down_a_peer_is_enough(
    kind: Starts, node: Node, network: Network, registry: Registry, library: Library
) -> None:
    image = f"docker.io/library/small@{library.small.manifest.digest}"
    pull(kind.start(node.host, Mirrors()), image)
    registry.stop()
    [other] = start_nodes(network, registry, "b")
    wait_until_met(node, other)
    wait_until_known(other, digests(pulled(library.small, library.small.images[0])))
    runtime = kind.start(other.host, Mirrors())
    pull(runtime, image)
    assert_unpacked(runtime, image, library.small.images[0])


def test_runtimes_that_pull_at_once_cost_the_upstream_one_copy(
    node: Node, registry: Registry, library: Library
) -> None:
    image = "docker.io/library/scene:1"
    runtimes = [RUNTIMES[name].start(node.host, Mirrors()) for name in ("containerd", "podman", "skopeo")]
    registry.host.shape(megabits=200)
    for pulling in [runtime.pulling(image) for runtime in runtimes]:
        pulling.finish()

    for runtime in runtimes:
        assert_unpacked(runtime, image, library.scene.images[0])
    fetches = [line for line in registry.requests_from(node.host) if '"GET ' in line]
    for layer in library.scene.images[0].layers:
        assert len([line for line in fetches if f"/blobs/{layer.digest}" in line]) == 1, layer
