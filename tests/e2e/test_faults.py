"""Whatever breaks around a node, a pull succeeds when a direct one would, and not much later."""

import os
import time
from pathlib import Path

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import FACADE, Node, start_nodes, wait_until_known
from tests.e2e.network import Network
from tests.e2e.process import wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.containers import Skopeo
from tests.e2e.runtimes.runtime import Mirrors, Runtime, assert_unpacked, pull

pytestmark = pytest.mark.e2e

SMALL = "docker.io/library/small:1"
SCENE = "docker.io/library/scene:1"


@pytest.fixture
def pair(network: Network, registry: Registry, library: Library) -> tuple[Node, Node]:
    """Two nodes; the second knows that the first holds `small`."""
    first, second = start_nodes(network, registry, "ab")
    pull(Skopeo.start(first.host, Mirrors()), SMALL)
    wait_until_known(second, digests(pulled(library.small, library.small.images[0])))
    return first, second


def _timed_pull(runtime: Runtime, image: str) -> float:
    begun = time.monotonic()
    pull(runtime, image)
    return time.monotonic() - begun


def test_a_peer_that_has_just_been_cut_off_costs_a_pull_a_few_seconds_at_most(
    pair: tuple[Node, Node], library: Library
) -> None:
    first, second = pair
    runtime = Skopeo.start(second.host, Mirrors())
    first.host.cut_off()
    assert _timed_pull(runtime, SMALL) < 5
    assert_unpacked(runtime, SMALL, library.small.images[0])


def test_a_peer_that_hangs_costs_a_pull_a_few_seconds_at_most(pair: tuple[Node, Node], library: Library) -> None:
    first, second = pair
    runtime = Skopeo.start(second.host, Mirrors())
    with first.process.frozen():
        assert _timed_pull(runtime, SMALL) < 5
    assert_unpacked(runtime, SMALL, library.small.images[0])


def test_an_upstream_that_is_cut_off_does_not_hold_up_what_a_peer_has(
    pair: tuple[Node, Node], registry: Registry, library: Library
) -> None:
    _, second = pair
    runtime = Skopeo.start(second.host, Mirrors())
    image = f"docker.io/library/small@{library.small.manifest.digest}"
    registry.host.cut_off()
    assert _timed_pull(runtime, image) < 5
    assert_unpacked(runtime, image, library.small.images[0])


def test_an_upstream_that_hangs_gets_an_answer_from_the_node_all_the_same(
    pair: tuple[Node, Node], registry: Registry
) -> None:
    _, second = pair
    begun = time.monotonic()
    with registry.process.frozen():
        answer = second.host.request(f"{FACADE}/v2/library/scene/manifests/1?ns=docker.io")
    assert answer.status == 404, answer
    assert time.monotonic() - begun < 15


def test_a_file_damaged_on_disk_is_not_served_and_heals(pair: tuple[Node, Node], library: Library) -> None:
    first, _ = pair
    path = _file(first, library)
    path.write_bytes(_damaged(path))

    runtime = Containerd.start(first.host, Mirrors())
    pull(runtime, SMALL)

    assert_unpacked(runtime, SMALL, library.small.images[0])
    assert all(first.stored().values()), first.stored()


def test_damage_that_shows_in_the_bytes_only_fails_a_peer_and_two_pulls_at_most(
    pair: tuple[Node, Node], library: Library
) -> None:
    first, second = pair
    path = _file(first, library)
    before, data = path.stat(), _damaged(path)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    peer = Containerd.start(second.host, Mirrors())
    pull(peer, SMALL)
    runtime = Containerd.start(first.host, Mirrors())
    for _ in range(2):
        pulling = runtime.pulling(SMALL)
        wait_until(lambda pulling=pulling: not pulling.running, "the pull ends", within_s=30)  # type: ignore[misc]
    pull(runtime, SMALL)

    assert_unpacked(peer, SMALL, library.small.images[0])
    assert_unpacked(runtime, SMALL, library.small.images[0])
    assert all(first.stored().values()), first.stored()


def _file(node: Node, library: Library) -> Path:
    return next((node.data / "blobs").rglob(library.small.images[0].layers[0].digest.hex))


def _damaged(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def test_a_lost_catalog_costs_no_pull(pair: tuple[Node, Node], library: Library) -> None:
    first, _ = pair
    first.process.terminate(within_s=10)
    catalog = list(first.data.glob("*.db*"))
    assert catalog
    for path in catalog:
        path.unlink()
    first.start_again()

    runtime = Containerd.start(first.host, Mirrors())
    pull(runtime, SMALL)

    assert_unpacked(runtime, SMALL, library.small.images[0])


def test_on_a_full_disk_a_pull_is_passed_through_and_the_node_says_so(
    network: Network, registry: Registry, library: Library
) -> None:
    host = network.host("a")
    (host.folder / "layermesh").mkdir()
    node = Node.start(host, registry, disk_mib=16)
    node.wait_ready()

    runtime = Containerd.start(host, Mirrors())
    pull(runtime, SCENE)

    assert_unpacked(runtime, SCENE, library.scene.images[0])
    wait_until(lambda: bool(node.ask("status")["warnings"]), "the node says that its disk is full", within_s=5)
