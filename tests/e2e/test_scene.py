"""The scene: two machines that nobody introduced; what one has pulled, the other gets from it."""

import re

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import FACADE, Node, start_nodes, wait_until_known
from tests.e2e.network import Network
from tests.e2e.process import wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull

pytestmark = pytest.mark.e2e

TAGGED = "docker.io/library/scene:1"


def test_with_the_upstream_gone_a_digest_comes_whole_from_the_peer(
    network: Network, registry: Registry, library: Library
) -> None:
    first, second = start_nodes(network, registry, "ab")
    pull(Containerd.start(first.host, Mirrors()), TAGGED)
    registry.stop()
    wait_until_known(second, digests(pulled(library.scene, library.scene.images[0])))

    runtime = Containerd.start(second.host, Mirrors())
    named = f"docker.io/library/scene@{library.scene.manifest.digest}"
    pull(runtime, named)

    assert_unpacked(runtime, named, library.scene.images[0])
    _all_came_from_the_peer(second, registry, library)


def test_with_the_upstream_gone_members_pull_by_tag_and_are_told_its_age(
    network: Network, registry: Registry, library: Library, secret: str
) -> None:
    first, second = start_nodes(network, registry, "ab", "--secret-file", secret)
    pull(Containerd.start(first.host, Mirrors()), TAGGED)
    registry.stop()
    wait_until_known(second, digests(pulled(library.scene, library.scene.images[0])))

    runtime = Containerd.start(second.host, Mirrors())
    pull(runtime, TAGGED)

    assert_unpacked(runtime, TAGGED, library.scene.images[0])
    _all_came_from_the_peer(second, registry, library)
    assert second.ask("where", TAGGED)["seen_by"] == first.ask("status")["name"]
    answer = second.host.request(f"{FACADE}/v2/library/scene/manifests/1?ns=docker.io")
    assert answer.status == 200
    assert 0 <= int(answer.headers["Age"]) < 120
    assert re.search(r"last saw this tag \d+ s ago", answer.headers["Warning"]), answer.headers["Warning"]


def test_a_peer_that_is_no_member_is_not_asked_what_a_tag_means(
    network: Network, registry: Registry, library: Library
) -> None:
    first, second = start_nodes(network, registry, "ab")
    pull(Containerd.start(first.host, Mirrors()), "docker.io/library/small:1")
    registry.stop()
    wait_until_known(second, digests(pulled(library.small, library.small.images[0])))

    answer = second.host.request(f"{FACADE}/v2/library/small/manifests/1?ns=docker.io")

    assert answer.status == 404, answer


def test_a_peer_killed_in_the_middle_of_a_fetch_costs_nothing_but_time(
    network: Network, registry: Registry, library: Library
) -> None:
    first, second = start_nodes(network, registry, "ab")
    pull(Containerd.start(first.host, Mirrors()), TAGGED)
    wait_until_known(second, digests(pulled(library.scene, library.scene.images[0])))
    first.host.shape(megabits=160)
    runtime = Containerd.start(second.host, Mirrors())
    before = second.host.received()

    pulling = runtime.pulling(TAGGED)
    wait_until(lambda: second.host.received() - before > 16 << 20, "a quarter of the big layer has come")
    assert pulling.running
    assert second.fetched("upstream") < 1 << 20, "the big layer was to come from the peer"
    first.process.kill()
    pulling.finish()

    assert_unpacked(runtime, TAGGED, library.scene.images[0])
    assert second.fetched("peer") > 8 << 20
    assert second.fetched("upstream") > 8 << 20


def _all_came_from_the_peer(node: Node, registry: Registry, library: Library) -> None:
    """By the node's own counters, by the registry's access log, and by the kernel's count of what came in."""
    whole = sum(blob.size for blob in pulled(library.scene, library.scene.images[0]))
    assert node.fetched("peer") == whole
    assert node.sample("layermesh_fetched_bytes_total") == whole
    assert registry.requests_from(node.host) == []
    assert node.host.received() > whole
    [peer] = node.ask("peers")["peers"]
    assert peer["state"] == "alive"
    assert whole <= peer["received_bytes"] < whole + 10_000  # the DAG's interior nodes came besides
