"""What `layermesh up` prints is typed into a shell as it stands, and pulls."""

import re

import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import Node, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.shell import CONTAINERD, DOCKER, type_in

pytestmark = pytest.mark.e2e


@pytest.fixture
def printed(network: Network, registry: Registry, library: Library) -> tuple[Node, dict[str, str]]:
    """A node over a Docker Hub that has `alpine`, and the paragraphs it prints, by the runtime they begin with."""
    [node] = start_nodes(network, registry, "a")
    node.process.until(lambda: "ctr images pull" in node.process.output(), "the commands are printed")
    paragraphs = re.split(r"^(?=# )", node.process.output(), flags=re.MULTILINE)
    return node, {re.split(r"\W+", text)[1]: text for text in reversed(paragraphs) if text.startswith("# ")}


def test_podman_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    type_in(node, paragraphs["Podman"])


def test_containerd_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    type_in(node, CONTAINERD + paragraphs["containerd"])


def test_docker_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    configure, pull = re.split(r"^(?=docker pull )", paragraphs["Docker"], maxsplit=1, flags=re.MULTILINE)
    type_in(node, configure + DOCKER + pull)
