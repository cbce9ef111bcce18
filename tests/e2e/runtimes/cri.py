"""containerd as kubelets ask it: through its container runtime interface."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.network import Host
from tests.e2e.runtimes.containerd import CONFIG, WITHOUT_CRI, Containerd
from tests.e2e.runtimes.runtime import Login, Mirrors, said

_CONFIG: Final = f"""\
{CONFIG.replace(WITHOUT_CRI, "")}
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{{folder}}/hosts"

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{{folder}}/cni"
"""
_PULL_IMAGE: Final = str(Path(__file__).with_name("pull_image.py"))


@dataclass(frozen=True, slots=True)
class Cri(Containerd):
    """A containerd of this test alone that kubelets may ask."""

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        return cls._start(host, mirrors, _CONFIG, "containerd", "ctr")

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image with a login as a kubelet hands it on from a pull secret; see `pull_with`."""
        return self.pull_with(image, **dict(zip(("username", "password"), login or (), strict=False)))

    def pull_with(self, image: str, **auth: str) -> str | None:
        """Pull an image, and forget it again; None when it came, else what was said. `auth`: fields of AuthConfig."""
        argv = [sys.executable, _PULL_IMAGE, str(self.socket), image, json.dumps(auth)]
        return said(self.host.attempt(argv))
