"""Every runtime, by the name that tests show."""

from collections.abc import Mapping
from typing import Final, Protocol

from tests.e2e.network import Host
from tests.e2e.runtimes.buildkit import BuildKit
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.docker import Docker
from tests.e2e.runtimes.runtime import Mirrors, Pusher, Runtime
from tests.e2e.runtimes.tools import Crane, Regctl


class Starts(Protocol):
    """A runtime's class, seen as what starts one."""

    def start(self, host: Host, mirrors: Mirrors) -> Runtime:
        """Start it on a host, with its `docker.io` mirrored."""


RUNTIMES: Final[Mapping[str, Starts]] = {
    "containerd": Containerd,
    "docker": Docker,
    "podman": Podman,
    "skopeo": Skopeo,
}


class StartsPusher(Protocol):
    """The class of a tool that pushes, seen as what starts one."""

    def start(self, host: Host, mirrors: Mirrors) -> Pusher:
        """Start it on a host."""


PUSHERS: Final[Mapping[str, StartsPusher]] = {
    "containerd": Containerd,
    "docker": Docker,
    "podman": Podman,
    "skopeo": Skopeo,
    "crane": Crane,
    "regctl": Regctl,
    "buildkit": BuildKit,
}
