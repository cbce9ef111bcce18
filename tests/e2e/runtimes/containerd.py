"""containerd, driven by ctr, with the mirror in a hosts.toml directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.runtime import AMD64, Mirrors

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
address = "{folder}/containerd.sock"

[ttrpc]
address = "{folder}/containerd.sock.ttrpc"
"""
_HOSTS = """\
server = "https://registry-1.docker.io"

[host."http://{mirror}"]
capabilities = ["pull", "resolve"]
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd of this test alone."""

    host: Host
    folder: Path
    daemon: Process

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        folder = host.folder / "containerd"
        (folder / "hosts" / "docker.io").mkdir(parents=True)
        (folder / "hosts" / "docker.io" / "hosts.toml").write_text(_HOSTS.format(mirror=mirrors.facade))
        config = folder / "config.toml"
        config.write_text(_CONFIG.format(folder=folder))
        runtime = cls(host, folder, host.start(["containerd", "--config", str(config)], name="containerd"))
        runtime.daemon.until(runtime._answers, "containerd answers")
        return runtime

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "containerd.sock"

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull."""
        pull = ["images", "pull", "--hosts-dir", str(self.folder / "hosts"), "--platform", platform, image]
        return self.host.start(self._ctr(*pull), name="ctr-pull")

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Mount the image as containerd unpacked it, and read a file."""
        target = self.folder / "mount"
        target.mkdir(exist_ok=True)
        self.host.attempt(self._ctr("snapshots", "remove", str(target)))  # the view of an earlier reading
        script = '"$0" --address "$1" images mount --platform "$2" "$3" "$4" >&2 && cat "$4/$5"'
        arguments = ["ctr", str(self.socket), platform, image, str(target), path]
        return self.host.run(["sh", "-c", script, *arguments])

    def push(self, layout: Path, image: str) -> None:
        """Import an image, and push it."""
        archive = self.folder / "image.tar"
        self.host.run(["skopeo", "--insecure-policy", "copy", f"oci:{layout}:1", f"oci-archive:{archive}:{image}"])
        self.host.run(self._ctr("images", "import", str(archive)))
        self.host.run(self._ctr("images", "push", "--plain-http", image))

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", "--address", str(self.socket), *arguments]

    def _answers(self) -> bool:
        return self.socket.exists() and self.host.attempt(self._ctr("version")).returncode == 0
