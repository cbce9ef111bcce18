"""Real tools push to a repository of the cluster's own through one node, and pull from it through another."""

from pathlib import Path

import pytest

from tests.e2e.mesh import Node, wait_until_pushed
from tests.e2e.runtimes.all import PUSHERS, StartsPusher
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull
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
