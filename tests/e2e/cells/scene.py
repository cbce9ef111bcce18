"""A cell, played: a client pulls through a node, another one like it pulls directly, and the first pulls again."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.cells.stage import Stage, open_stage
from tests.e2e.cells.table import CONTAINERD, CONTAINERD_24, DOCKER, PODMAN, SKOPEO, Cell, Ends, Form
from tests.e2e.mesh import Node, wait_until_known
from tests.e2e.network import Network
from tests.e2e.process import Process, wait_until
from tests.e2e.runtimes.all import Starts
from tests.e2e.runtimes.containerd import Containerd, Containerd24
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.docker import Docker
from tests.e2e.runtimes.runtime import Mirrors, Runtime, assert_unpacked
from tests.facade.matrix.cells import IMAGE
from tests.facade.matrix.upstreams import NAME, TAG, UPSTREAMS

CLIENTS: Final[Mapping[str, Starts]] = {
    CONTAINERD: Containerd,
    CONTAINERD_24: Containerd24,
    DOCKER: Docker,
    PODMAN: Podman,
    SKOPEO: Skopeo,
}
NO_END_S: Final = 100.0
"""A pull that takes longer hangs; the longest that ends on its own is a quarter of it."""
_GRACE_S: Final = 3.0
"""How much longer than the one through the node, which failed, a direct pull is waited for."""
DIRECT_NAME: Final = f"docker.io/{NAME}:{TAG}"


@dataclass(frozen=True, slots=True)
class Played:
    """How the pulls of a cell ended. `direct` is None for one that had no end when it was given up."""

    through: Ends
    direct: Ends | None
    again: Ends
    took_s: tuple[float, float]
    """The pull through the node, and the one when all was well again."""
    said: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A node with a client, a client that knows of no node, and what both stand before."""

    cell: Cell
    stage: Stage
    node: Node
    client: Runtime
    direct: Runtime

    @property
    def image(self) -> str:
        """What the client at the node calls the image."""
        return f"127.0.0.1:5050/{DIRECT_NAME}" if self.cell.form is Form.FULL_NAME else DIRECT_NAME

    def play(self) -> Played:
        """Let all go wrong, pull; and pull again when nothing is wrong any more.

        Raises:
            AssertionError: when a pull through the node has no end, or the client takes wrong bytes for right ones.
        """
        self.stage.spoil(self.cell)
        began = time.monotonic()
        pulling, direct = self.client.pulling(self.image), self.direct.pulling(DIRECT_NAME)
        wait_until(lambda: not pulling.running, f"{pulling.name} ends", NO_END_S)
        through_s = time.monotonic() - began
        through = self._ending(pulling)
        directly = _given_up(direct, 0.0 if through is Ends.RIGHT else _GRACE_S)
        self.stage.heal()
        began = time.monotonic()
        again = self._again()
        return Played(through, directly, again, (through_s, time.monotonic() - began), pulling.output(4000))

    def _again(self) -> Ends:
        for _ in range(self._tries()):
            pulling = self.client.pulling(self.image)
            wait_until(lambda pulling=pulling: not pulling.running, f"{pulling.name} ends again", NO_END_S)  # type: ignore[misc]
            if (again := self._ending(pulling)) is Ends.RIGHT:
                break
        return again

    def _ending(self, pulling: Process) -> Ends:
        if pulling.popen.returncode:
            return Ends.FAILS
        assert_unpacked(self.client, self.image, IMAGE)
        return Ends.RIGHT

    def _tries(self) -> int:
        """containerd keeps what came of each layer that was cut, and drops what is wrong of one with each pull."""
        misled = self.cell.peer == "lies-about-the-mapping" or UPSTREAMS[self.cell.upstream].misleads
        keeps = self.cell.client in (CONTAINERD, CONTAINERD_24)
        return 1 + misled * keeps * len(IMAGE.layers)


@contextmanager
def open_scene(cell: Cell, network: Network, secret: str) -> Iterator[Scene]:
    """All that a cell needs, before anything goes wrong: the node knows what its peer has."""
    shared = Path(secret).read_bytes().strip() if cell.member else None
    with open_stage(network.host("stage"), cell, shared) as stage:
        options = ["--secret-file", secret] if cell.member else []
        if stage.peer is not None:
            options += ["--join", str(stage.peer.url)]
        node = Node.start(network.host("a"), stage.behind.registry, *options)
        upstream = stage.behind.registry.address if cell.form is Form.MIRROR else None
        client = CLIENTS[cell.client].start(node.host, Mirrors(upstream=upstream))
        alone = Mirrors(upstream=stage.direct.registry.address, mirrored=False)
        direct = CLIENTS[cell.client].start(network.host("direct"), alone)
        node.wait_ready()
        if stage.peer is not None:
            wait_until_known(node, [IMAGE.manifest.digest, *(blob.digest for blob in IMAGE.blobs)])
        yield Scene(cell, stage, node, client, direct)


def _given_up(direct: Process, grace_s: float) -> Ends | None:
    """How a direct pull ended; one that has no end yet gets so much longer."""
    deadline = time.monotonic() + grace_s
    while direct.running and time.monotonic() < deadline:
        time.sleep(0.05)
    if direct.running:
        direct.kill()
        return None
    return Ends.FAILS if direct.popen.returncode else Ends.RIGHT
