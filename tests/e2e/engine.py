"""A Docker engine with bridges and containers, for the compose set-up; all of it on one host of the network."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.docker import ALONE

BASE_TAR: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layermesh-e2e" / "base.tar"
_REPOSITORY: Final = Path(__file__).parents[2]
# No image can be downloaded, so this one stands in for python:3-slim; it holds the packages that the build installs.
_BASE: Final = """\
FROM debian
COPY wheels /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A dockerd with everything it needs to run containers, in a process namespace of its own: all ends with it."""

    host: Host
    folder: Path
    daemon: Process

    def docker(self, *arguments: str, within_s: float = 90) -> str:
        """Run the Docker client."""
        return self._client(["docker", *arguments], within_s)

    def compose(self, *arguments: str, within_s: float = 90) -> str:
        """Run docker-compose for this repository's compose file and the test's own additions to it."""
        files = ["--file", str(_REPOSITORY / "compose" / "compose.yaml"), "--file", str(self.additions)]
        return self._client(["docker-compose", "--project-name", "mesh", *files, *arguments], within_s)

    @property
    def additions(self) -> Path:
        """A compose file of the test's own."""
        return self.folder / "additions.yaml"

    def import_base(self) -> None:
        """Make the image `base`, which every build starts from."""
        wheels = self.folder / "base" / "wheels"
        download_wheels(wheels)
        (wheels.parent / "Dockerfile").write_text(_BASE)
        self.docker("import", str(BASE_TAR), "debian")
        self.docker("build", "--tag", "base", str(wheels.parent))

    def _client(self, argv: list[str], within_s: float) -> str:
        environment = {"DOCKER_HOST": f"unix://{self.folder}/docker.sock", "DOCKER_BUILDKIT": "0"}
        return self.host.run(argv, environment=environment, within_s=within_s).decode()


@contextlib.contextmanager
def open_engine(host: Host) -> Iterator[Engine]:
    """Start it, and remove its containers afterwards."""
    folder = host.folder / "engine"
    folder.mkdir()
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    own = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    (folder / "daemon.json").write_text("{}")
    own += ["--config-file", f"{folder}/daemon.json", "--host", f"unix://{folder}/docker.sock"]
    engine = Engine(host, folder, host.start([*alone, *ALONE, "dockerd", *own], name="dockerd"))
    client = ["docker", "--host", f"unix://{folder}/docker.sock", "version"]
    engine.daemon.until(lambda: host.attempt(client).returncode == 0, "dockerd answers", within_s=30)
    try:
        yield engine
    finally:
        running = engine.docker("ps", "--all", "--quiet").split()
        if running:
            engine.docker("rm", "--force", "--volumes", *running)
        engine.daemon.kill()  # whatever is left in its process namespace goes with it


def download_wheels(folder: Path) -> None:
    """The pinned packages that a node needs, for the Python of the base image (Debian 12's)."""
    machine = os.uname().machine
    platforms = [f"--platform=manylinux{glibc}_{machine}" for glibc in ("2014", "_2_17", "_2_28", "_2_34")]
    which = ["--only-binary=:all:", "--python-version=3.11", *platforms, "--dest", str(folder)]
    pinned = ["--require-hashes", "--requirement", str(_REPOSITORY / "requirements" / "run.txt")]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *which, *pinned]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
