"""A hostile neighbour announces itself by mDNS like any node, and spoils nothing."""

import sys
from pathlib import Path

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import FACADE, start_nodes, wait_until_known
from tests.e2e.network import Host, Network
from tests.e2e.process import Process, wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.containers import Podman
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull

pytestmark = pytest.mark.e2e

TAGGED = "docker.io/library/scene:1"
REPOSITORY = Path(__file__).parents[2]


def _hostile(host: Host, lie: str, *options: str) -> Process:
    argv = [sys.executable, "-m", "tests.e2e.hostile", "--address", host.address, "--lie", lie, *options]
    process = host.start(argv, name="hostile", environment={"PYTHONPATH": str(REPOSITORY)})
    process.until(lambda: "lying" in process.output(), "the hostile neighbour is there", within_s=30)
    return process


@pytest.mark.parametrize("lie", ["mapping", "bytes", "stall", "cut"])
def test_a_neighbour_that_lies_or_fails_is_found_out_and_the_upstream_serves(
    network: Network, registry: Registry, library: Library, lie: str
) -> None:
    hostile = _hostile(network.host("mallory"), lie)
    [node] = start_nodes(network, registry, "a")
    wait_until_known(node, digests(pulled(library.scene, library.scene.images[0])))

    runtime = Podman.start(node.host, Mirrors())  # it forgives nothing: no cut, no wrong byte
    pull(runtime, TAGGED)

    assert_unpacked(runtime, TAGGED, library.scene.images[0])
    assert "asked for" in hostile.output()
    assert all(node.stored().values()), node.stored()


@pytest.mark.parametrize("lie", ["mapping", "bytes"])
def test_with_the_upstream_gone_an_honest_peer_prevails_over_a_lying_one(
    network: Network, registry: Registry, library: Library, lie: str
) -> None:
    honest, other = start_nodes(network, registry, "ab")
    pull(Containerd.start(honest.host, Mirrors()), TAGGED)
    _hostile(network.host("mallory"), lie)
    registry.stop()
    wait_until_known(other, digests(pulled(library.scene, library.scene.images[0])), holders=2)

    runtime = Containerd.start(other.host, Mirrors())
    named = f"docker.io/library/scene@{library.scene.manifest.digest}"
    pull(runtime, named)

    assert_unpacked(runtime, named, library.scene.images[0])
    assert all(other.stored().values()), other.stored()


@pytest.mark.parametrize("member", [True, False], ids=["by a member", "by a stranger"])
def test_a_tag_dated_tomorrow_is_not_believed(
    network: Network, registry: Registry, library: Library, secret: str, member: bool
) -> None:
    honest, other = start_nodes(network, registry, "ab", "--secret-file", secret)
    pull(Containerd.start(honest.host, Mirrors()), TAGGED)
    _hostile(network.host("mallory"), "tags", *(("--secret-file", secret) if member else ()))
    if member:
        wait_until(lambda: other.sample("layermesh_peers", state="alive") == 2, "the liar is met")
    wait_until_known(other, digests(pulled(library.scene, library.scene.images[0])))
    registry.stop()

    runtime = Containerd.start(other.host, Mirrors())
    pull(runtime, TAGGED)

    assert_unpacked(runtime, TAGGED, library.scene.images[0])
    answer = other.host.request(f"{FACADE}/v2/library/scene/manifests/1?ns=docker.io", method="HEAD")
    assert answer.headers["Docker-Content-Digest"] == str(library.scene.manifest.digest)
