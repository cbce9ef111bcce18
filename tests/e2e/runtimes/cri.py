"""containerd as kubelets ask it: through its container runtime interface."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.network import Host
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.runtime import Login, Mirrors, said

_PULL_IMAGE: Final = str(Path(__file__).with_name("pull_image.py"))


@dataclass(frozen=True, slots=True)
class Cri:
    """A containerd of this test alone that kubelets may ask."""

    containerd: Containerd

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        return cls(Containerd.start(host, mirrors, cri=True))

    def mirror(self, namespace: str, server: str) -> None:
        """Pull a namespace's images from the mirror, and from `server`, a host and port, where that fails."""
        self.containerd.mirror(namespace, server)

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image with a login as a kubelet hands it on from a pull secret; see `pull`."""
        return self.pull(image, **dict(zip(("username", "password"), login or (), strict=False)))

    def pull(self, image: str, **auth: str) -> str | None:
        """Pull an image, and forget it again; None when it came, else what was said. `auth`: fields of AuthConfig."""
        if failure := self._ask("PullImage", image, auth):
            return failure
        assert self._ask("RemoveImage", image, {}) is None
        return None

    def _ask(self, method: str, image: str, auth: dict[str, str]) -> str | None:
        argv = [sys.executable, _PULL_IMAGE, str(self.containerd.socket), method, image, json.dumps(auth)]
        return said(self.containerd.host.attempt(argv))
