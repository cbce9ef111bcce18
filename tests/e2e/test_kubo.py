"""Two machines, each with a node that stands on a Kubo of its own, in a swarm that nobody else can talk to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest

from tests.e2e.library import Library, digests, pulled
from tests.e2e.mesh import LAYERMESH, Node, start_nodes, wait_until_known
from tests.e2e.network import Host, Network
from tests.e2e.process import Process, wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containers import Skopeo
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull
from tests.fakes.images import FakeImage
from tests.kubo.daemon import built_kubo, kubo_environment, lay_repository

pytestmark = pytest.mark.e2e

RPC: Final = "http://127.0.0.1:5001"
SCENE: Final = "docker.io/library/scene:1"
SMALL: Final = "docker.io/library/small:1"


@dataclass
class Machine:
    """A machine with a Kubo, and a node that was told of nothing but its RPC and the cluster secret."""

    host: Host
    kubo: Process

    @classmethod
    def start(cls, host: Host, swarm_key: str) -> "Machine":
        """Start the Kubo."""
        repo = host.folder / "kubo"
        repo.mkdir()
        listening = {"api": "/ip4/127.0.0.1/tcp/5001", "gateway": "/ip4/127.0.0.1/tcp/8080"}
        lay_repository(repo, swarm="/ip4/0.0.0.0/tcp/4001", swarm_key=swarm_key, settings={}, **listening)
        kubo = host.start([built_kubo(), "daemon"], name="kubo", environment=kubo_environment(repo))
        machine = cls(host, kubo)
        kubo.until(lambda: machine.ask("id") is not None, "Kubo answers")
        return machine

    def ask(self, command: str, *arguments: str, **options: str) -> Any:
        """What Kubo answers; None while it does not."""
        words = [*(("arg", each) for each in arguments), *options.items()]
        try:
            answer = self.host.request(f"{RPC}/api/v0/{command}?{urlencode(words, quote_via=quote)}", method="POST")
        except OSError:
            return None
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def pins(self) -> int:
        """How many blobs its Kubo keeps for a node."""
        return len(self.ask("pin/ls", type="recursive", name="layermesh/").get("Keys", {}))

    def moved(self) -> tuple[int, int]:
        """Bytes of blocks that its Kubo sent to others, and got of them, as it counts them itself."""
        said = self.ask("bitswap/stat")
        return int(said["DataSent"]), int(said["DataReceived"])


@pytest.fixture
def swarm_key(network: Network, secret: str) -> str:
    """What `layermesh ipfs swarm-key` hands out."""
    return network.host("desk").run([LAYERMESH, "ipfs", "swarm-key", "--secret-file", secret]).decode()


def start(
    network: Network, registry: Registry, secret: str, swarm_key: str
) -> tuple[Sequence[Node], Sequence[Machine]]:
    """Two members that have met, beside Kubos that were told nothing of each other."""
    built_kubo()
    nodes = start_nodes(network, registry, "ab", "--secret-file", secret, "--ipfs", f"kubo={RPC}")
    machines = [Machine.start(node.host, swarm_key) for node in nodes]
    wait_until(lambda: all(node.ask("status")["ipfs"]["usable"] for node in nodes), "the Kubos that came are used")
    return nodes, machines


def test_an_image_goes_from_kubo_to_kubo_where_no_node_and_no_registry_gives_it(
    network: Network, registry: Registry, library: Library, secret: str, swarm_key: str
) -> None:
    (first, second), (sender, receiver) = start(network, registry, secret, swarm_key)
    image = library.scene.images[0]
    blobs = pulled(library.scene, image)
    pull(Skopeo.start(first.host, Mirrors()), SCENE)
    wait_until(lambda: sender.pins() == len(blobs), "all of the image is in the first Kubo", within_s=60)
    wait_until_known(second, digests(blobs))
    wait_until(lambda: receiver.ask("swarm/peers").get("Peers"), "the Kubos were introduced to each other")

    registry.stop()
    first.process.terminate(within_s=20)
    runtime = Skopeo.start(second.host, Mirrors())
    pull(runtime, SCENE)

    assert_unpacked(runtime, SCENE, image)
    size = sum(blob.size for blob in blobs)
    assert second.fetched("ipfs") >= size
    assert second.fetched("peer") == 0 and second.fetched("upstream") == 0
    assert sender.moved()[0] >= size and receiver.moved()[1] >= size
    assert all(second.stored().values())
    wait_until(lambda: receiver.pins() >= 1, "what came is kept by the second Kubo as well")


def lose(node: Node, image: FakeImage) -> None:
    """Take the layers from its disk: it finds out when it is asked for them, and Kubo has them still."""
    wait_until(lambda: {layer.digest.hex for layer in image.layers} <= node.stored().keys(), "all of it has landed")
    for layer in image.layers:
        next((node.data / "blobs").rglob(layer.digest.hex)).unlink()


def test_a_kubo_that_dies_or_hangs_costs_no_pull_of_what_it_has(
    network: Network, registry: Registry, library: Library, secret: str, swarm_key: str
) -> None:
    (first, _), (machine, _) = start(network, registry, secret, swarm_key)
    image = library.small.images[0]
    blobs = pulled(library.small, image)
    runtime = Skopeo.start(first.host, Mirrors())
    pull(runtime, SMALL)
    wait_until(lambda: machine.pins() == len(blobs), "all of the image is in the Kubo")
    upstream = first.fetched("upstream")
    lose(first, image)
    assert runtime.attempt(SMALL, None) is None
    assert first.fetched("ipfs") >= sum(layer.size for layer in image.layers)
    assert first.fetched("upstream") == upstream

    lose(first, image)
    with machine.kubo.frozen():
        assert runtime.attempt(SMALL, None) is None
        wait_until(lambda: "is it frozen?" in first.ask("status")["ipfs"]["state"], "status says that it hangs")
    assert first.fetched("upstream") > upstream
    machine.kubo.kill()
    pull(runtime, SCENE)
    wait_until(lambda: "is away" in first.ask("status")["ipfs"]["state"], "status says that it is gone")
    assert_unpacked(runtime, SCENE, library.scene.images[0])
