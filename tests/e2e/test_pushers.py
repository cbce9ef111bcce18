"""Real tools push to a repository of the cluster's own through one node, and pull from it through another."""

from pathlib import Path

import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import Node, wait_until_pushed
from tests.e2e.registry import Registry
from tests.e2e.runtimes.all import PUSHERS, StartsPusher
from tests.e2e.runtimes.containers import Skopeo
from tests.e2e.runtimes.runtime import AMD64, ARM64, Mirrors, assert_unpacked, pull
from tests.e2e.runtimes.tools import Crane, Regctl
from tests.fakes.images import FakeImage, make_image, write_layout

pytestmark = pytest.mark.e2e

IMAGE = "127.0.0.1:5050/team/app:1"


@pytest.fixture(params=PUSHERS)
def kind(request: pytest.FixtureRequest) -> StartsPusher:
    """One kind of tool after the other."""
    return PUSHERS[request.param]


@pytest.fixture(scope="module")
def image() -> FakeImage:
    """What is pushed; the upstream has nothing of it."""
    return make_image("pushed", (40_000, 3_000_000))


@pytest.fixture
def layout(folder: Path, image: FakeImage) -> Path:
    """The image, tagged `1`, as a layout on disk."""
    write_layout(folder / "pushed", {"1": image})
    return folder / "pushed"


def test_what_a_tool_pushes_through_one_node_it_pulls_through_another(
    members: tuple[Node, Node], kind: StartsPusher, layout: Path, image: FakeImage
) -> None:
    first, second = members
    kind.start(first.host, Mirrors()).push(layout, IMAGE)
    wait_until_pushed(second, "team/app", "1")

    puller = kind.start(second.host, Mirrors())
    pull(puller, IMAGE)

    assert_unpacked(puller, IMAGE, image)


@pytest.mark.parametrize("tool", ["crane", "regctl"])
def test_an_image_of_many_platforms_is_copied_from_the_upstream_and_on_without_its_bytes(
    members: tuple[Node, Node], registry: Registry, library: Library, tool: str
) -> None:
    first, second = members
    copier: Crane | Regctl = Crane.start(first.host, Mirrors())
    if tool == "regctl":
        copier = Regctl.start(first.host, Mirrors())
        copier.trust(registry.address)
    copier.copy(f"{registry.address}/library/small:1", IMAGE)
    begun = _answered(first, "POST", 202)
    copier.copy(IMAGE, "127.0.0.1:5050/other/app:2")
    assert _answered(first, "POST", 201) >= len(library.small.images[0].blobs)
    assert _answered(first, "POST", 202) == begun, "blobs that are here were uploaded again"
    wait_until_pushed(second, "other/app", "2")

    skopeo = Skopeo.start(second.host, Mirrors())
    for platform, content in zip((AMD64, ARM64), library.small.images, strict=True):
        for image in (IMAGE, "127.0.0.1:5050/other/app:2"):
            pull(skopeo, image, platform)
            assert_unpacked(skopeo, image, content, platform)


def _answered(node: Node, method: str, status: int) -> float:
    return node.sample("http_server_requests_total", listener="facade", method=method, code=str(status))
