"""containerd, driven by ctr, with the mirror in a hosts.toml directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.runtime import AMD64, Login, Mirrors, said

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [{disabled}]

[grpc]
address = "{folder}/containerd.sock"

[ttrpc]
address = "{folder}/containerd.sock.ttrpc"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/hosts"

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{folder}/cni"
"""
_CRI = "io.containerd.grpc.v1.cri"
_HOSTS = """\
server = "{server}"

[host."http://{mirror}"]
capabilities = ["pull", "resolve"]
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd of this test alone."""

    host: Host
    folder: Path
    daemon: Process
    mirrors: Mirrors

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors, *, cri: bool = False) -> Self:
        """Start it, and return when it answers. `cri`: kubelets may ask as well."""
        folder = host.folder / "containerd"
        folder.mkdir(parents=True)
        config = folder / "config.toml"
        config.write_text(_CONFIG.format(folder=folder, disabled="" if cri else f'"{_CRI}"'))
        daemon = host.start(["containerd", "--config", str(config)], name="containerd")
        runtime = cls(host, folder, daemon, mirrors)
        runtime._write_hosts("docker.io", "https://registry-1.docker.io")
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

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image with a login, and forget it again; None when it came, else what was said."""
        where = ["--hosts-dir", str(self.folder / "hosts"), "--platform", AMD64]
        user = ["--user", ":".join(login)] if login else []
        if failure := said(self.host.attempt(self._ctr("images", "pull", *where, *user, image))):
            return failure
        self.host.run(self._ctr("images", "remove", "--sync", image))
        return None

    def mirror(self, namespace: str, server: str) -> None:
        """Pull a namespace's images from the mirror, and from `server`, a host and port, where that fails."""
        self._write_hosts(namespace, f"http://{server}")

    def _write_hosts(self, namespace: str, server: str) -> None:
        hosts = self.folder / "hosts" / namespace
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(_HOSTS.format(server=server, mirror=self.mirrors.facade))

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", "--address", str(self.socket), *arguments]

    def _answers(self) -> bool:
        return self.socket.exists() and self.host.attempt(self._ctr("version")).returncode == 0
