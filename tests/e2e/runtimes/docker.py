"""Docker with `registry-mirrors`; it makes no bridge and no firewall rules."""

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.runtime import AMD64, Login, Mirrors, said

# It keeps a key in /etc/docker whatever it is told: a folder of this process alone.
ALONE = ["sh", "-c", 'mount -t tmpfs tmpfs /etc/docker && exec "$0" "$@"']


@dataclass(frozen=True, slots=True)
class Docker:
    """A dockerd of this test alone, over a containerd of its own."""

    host: Host
    folder: Path
    daemon: Process

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        containerd = Containerd.start(host, mirrors)
        folder = host.folder / "docker"
        folder.mkdir(parents=True)
        config = folder / "daemon.json"
        config.write_text("{}")
        untouched = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]
        own = ["--config-file", str(config), "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        own += ["--pidfile", f"{folder}/pid", "--containerd", str(containerd.socket)]
        asked = [mirrors.docker] * mirrors.mirrored + [mirrors.upstream or ""] * bool(mirrors.upstream)
        own += [f"--registry-mirror=http://{each}" for each in asked]  # asked in this order
        argv = ["dockerd", "--host", f"unix://{folder}/docker.sock", *untouched, *own]
        runtime = cls(host, folder, host.start([*ALONE, *argv], name="dockerd"))
        runtime.daemon.until(runtime._answers, "dockerd answers", within_s=30)
        return runtime

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull."""
        return self.host.start(self._docker("pull", "--platform", platform, image), name="docker-pull")

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Make a container of the image, and copy a file out of it."""
        made = self.host.run(self._docker("create", "--pull", "never", "--platform", platform, image, "/none"))
        container = made.decode().strip()
        copied = self.folder / "copied"
        self.host.run(self._docker("cp", f"{container}:/{path}", str(copied)))
        self.host.run(self._docker("rm", container))
        return copied.read_bytes()

    def push(self, layout: Path, image: str) -> None:
        """Load an image, and push it."""
        archive = self.folder / "image.tar"
        self.host.run(["skopeo", "--insecure-policy", "copy", f"oci:{layout}:1", f"docker-archive:{archive}:{image}"])
        self.host.run(self._docker("load", "--input", str(archive)))
        self.host.run(self._docker("push", image))

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image with a login at the registry in its name, and forget it again; returns as `LogsIn.attempt`."""
        place = image.partition("/")[0]
        self.host.run(self._docker("logout", place))
        if login:
            self.host.run(self._docker("login", "--username", login[0], "--password", login[1], place))
        failure = said(self.host.attempt(self._docker("pull", image)))
        if failure is None:
            self.host.run(self._docker("rmi", image))
        return failure

    def keep_login(self, place: str, login: Login) -> None:
        """Note a login as if the registry had been there to accept it."""
        auth = b64encode(":".join(login).encode()).decode()
        client = self.folder / "client"
        client.mkdir()
        (client / "config.json").write_text(json.dumps({"auths": {place: {"auth": auth}}}))

    def _docker(self, *arguments: str) -> list[str]:
        return [
            "docker",
            "--config",
            f"{self.folder}/client",
            "--host",
            f"unix://{self.folder}/docker.sock",
            *arguments,
        ]

    def _answers(self) -> bool:
        return self.host.attempt(self._docker("version")).returncode == 0
