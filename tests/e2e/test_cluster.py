"""Machines that come, go, die and are cut off, on a network where only mDNS introduces them."""

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import Node, start_nodes, wait_until_known, wait_until_met
from tests.e2e.network import Network
from tests.e2e.process import wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containers import Skopeo
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull

pytestmark = pytest.mark.e2e


@pytest.fixture
def nodes(network: Network, registry: Registry) -> tuple[Node, Node, Node]:
    """Three nodes that have met."""
    first, second, third = start_nodes(network, registry, "abc")
    return first, second, third


def _alive(node: Node) -> int:
    return int(node.sample("layermesh_peers", state="alive"))


def test_a_node_that_stops_is_missed_at_once(nodes: tuple[Node, Node, Node]) -> None:
    first, second, third = nodes
    first.process.terminate(within_s=10)
    wait_until(lambda: _alive(second) == _alive(third) == 1, "the others know that it has left", within_s=1)


def test_a_node_that_is_killed_is_missed_within_three_seconds_and_welcome_again(
    nodes: tuple[Node, Node, Node],
) -> None:
    first, second, third = nodes
    first.process.kill()
    wait_until(lambda: _alive(second) == _alive(third) == 1, "the others miss it", within_s=3)
    first.start_again()
    wait_until_met(first, second, third)


def test_a_machine_that_is_cut_off_is_missed_within_five_seconds_and_found_again(
    nodes: tuple[Node, Node, Node],
) -> None:
    first, second, third = nodes
    first.host.cut_off()
    wait_until(lambda: _alive(second) == _alive(third) == 1, "the others miss it", within_s=6)
    first.host.reconnect()
    wait_until_met(first, second, third, within_s=30)


def test_a_peer_that_is_cut_off_in_the_middle_of_a_fetch_costs_seconds_only(
    nodes: tuple[Node, Node, Node], registry: Registry, library: Library
) -> None:
    first, second, _ = nodes
    image = "docker.io/library/scene:1"
    pull(Skopeo.start(first.host, Mirrors()), image)
    wait_until_known(second, digests(pulled(library.scene, library.scene.images[0])))
    first.host.shape(megabits=160)
    runtime = Skopeo.start(second.host, Mirrors())
    before = second.host.received()

    pulling = runtime.pulling(image)
    wait_until(lambda: second.host.received() - before > 16 << 20, "a quarter of the big layer has come")
    assert pulling.running
    first.host.cut_off()
    pulling.finish(within_s=15)

    assert_unpacked(runtime, image, library.scene.images[0])


def test_two_peers_send_a_layer_together(nodes: tuple[Node, Node, Node], registry: Registry, library: Library) -> None:
    image = f"docker.io/library/scene@{library.scene.manifest.digest}"
    *holders, third = nodes
    for holder in holders:
        pull(Skopeo.start(holder.host, Mirrors()), image)
        holder.host.shape(megabits=200)
    registry.stop()
    wait_until_known(third, digests(pulled(library.scene, library.scene.images[0])), holders=2)
    sent_before = [holder.sample("layermesh_peer_bytes_total", direction="out") for holder in holders]

    runtime = Skopeo.start(third.host, Mirrors())
    pull(runtime, image)

    assert_unpacked(runtime, image, library.scene.images[0])
    for holder, before in zip(holders, sent_before, strict=True):
        assert holder.sample("layermesh_peer_bytes_total", direction="out") - before > 16 << 20, holder.host.name
