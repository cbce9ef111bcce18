"""How the daemon starts, stops and comes back: in the middle of things, and where it cannot."""

import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import LAYERMESH, Node, start_nodes
from tests.e2e.network import Network
from tests.e2e.process import Process, wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull

pytestmark = pytest.mark.e2e

IMAGE = "docker.io/library/scene:1"


@pytest.fixture
def node(network: Network, registry: Registry) -> Node:
    """A node alone on its machine."""
    [node] = start_nodes(network, registry, "a")
    return node


def _half_way(node: Node, runtime: Containerd, registry: Registry) -> Process:
    """A pull that is in the middle of the big layer."""
    registry.host.shape(megabits=80)
    before = node.host.received()
    pulling = runtime.pulling(IMAGE)
    wait_until(lambda: node.host.received() - before > 16 << 20, "a quarter of the big layer has come")
    assert pulling.running
    return pulling


def test_sigterm_in_the_middle_of_a_pull_stops_within_ten_seconds_and_leaves_nothing_half_written(
    node: Node, registry: Registry
) -> None:
    pulling = _half_way(node, Containerd.start(node.host, Mirrors()), registry)

    status = node.process.terminate(within_s=10)

    assert status == 0, node.process.output()
    assert "Traceback" not in node.process.output()
    assert all(node.stored().values()), node.stored()
    wait_until(lambda: not pulling.running, "the pull ends too", within_s=30)


def test_an_idle_node_stops_at_once(node: Node) -> None:
    assert node.process.terminate(within_s=3) == 0


def test_after_a_power_cut_in_the_middle_of_a_pull_only_whole_blobs_are_there_and_the_pull_works(
    node: Node, registry: Registry, library: Library
) -> None:
    runtime = Containerd.start(node.host, Mirrors())
    pulling = _half_way(node, runtime, registry)

    node.process.kill()
    wait_until(lambda: not pulling.running, "the pull ends too", within_s=30)
    node.start_again()

    assert all(node.stored().values()), node.stored()
    registry.host.shape(megabits=2000)
    pull(runtime, IMAGE)
    assert_unpacked(runtime, IMAGE, library.scene.images[0])
    assert all(node.stored().values()), node.stored()


def test_a_port_in_use_is_said_in_one_line_that_names_it(node: Node) -> None:
    other = node.host.folder / "other"

    done = node.host.attempt([LAYERMESH, "up", "--data", str(other)], within_s=20)

    assert done.returncode == 1
    said = done.stderr.decode().strip()
    assert "5050" in said or "5051" in said or "5052" in said or "5053" in said, said
    assert len(said.splitlines()) == 1, said


def test_a_data_folder_in_use_is_said_in_one_line_that_names_it(node: Node, network: Network) -> None:
    other = network.host("b")

    done = other.attempt([LAYERMESH, "up", "--data", str(node.data)], within_s=20)

    assert done.returncode == 1
    said = done.stderr.decode().strip()
    assert str(node.data) in said, said
    assert len(said.splitlines()) == 1, said
