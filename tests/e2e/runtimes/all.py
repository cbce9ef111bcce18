"""Every runtime, by the name that tests show."""

from collections.abc import Mapping
from typing import Final, Protocol

from tests.e2e.network import Host
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.docker import Docker
from tests.e2e.runtimes.runtime import Mirrors, Runtime


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
