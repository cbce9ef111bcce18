"""containerd, driven by ctr, with the mirror in a hosts.toml directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.needs import built
from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.runtime import AMD64, Login, Mirrors, said

WITHOUT_CRI: Final = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
CONFIG: Final = f"""\
version = 2
root = "{{folder}}/root"
state = "{{folder}}/state"
{WITHOUT_CRI}

[grpc]
address = "{{folder}}/containerd.sock"

[ttrpc]
address = "{{folder}}/containerd.sock.ttrpc"
"""
_CONFIG_4: Final = """\
version = 4
root = "{folder}/root"
state = "{folder}/state"

[plugins.'io.containerd.server.v1.grpc']
address = "{folder}/containerd.sock"

[plugins.'io.containerd.server.v1.ttrpc']
address = "{folder}/containerd.sock.ttrpc"
"""
# Newer daemons mount for ctr, where nobody else sees it: what they mounted is mounted here as well.
_READ: Final = """\
"$0" --address "$1" images mount --platform "$2" "$3" "$4" >&2
mounted=$("$0" --address "$1" snapshots mounts "$4" "$4")
eval "$mounted"
cat "$4/$5"
"""
_HOSTS: Final = """\
server = "{server}"

[host]
"""
_MIRROR: Final = """\
[host."http://{mirror}"]
capabilities = ["pull", "resolve"]
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd of this test alone: Debian's."""

    host: Host
    folder: Path
    daemon: Process
    mirrors: Mirrors
    ctr: str

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        return cls._start(host, mirrors, CONFIG, "containerd", "ctr")

    @classmethod
    def _start(cls, host: Host, mirrors: Mirrors, settings: str, program: str, ctr: str) -> Self:
        folder = host.folder / "containerd"
        folder.mkdir(parents=True)
        config = folder / "config.toml"
        config.write_text(settings.format(folder=folder))
        daemon = host.start([program, "--config", str(config)], name="containerd")
        runtime = cls(host, folder, daemon, mirrors, ctr)
        server = f"http://{mirrors.upstream}" if mirrors.upstream else "https://registry-1.docker.io"
        mirror = _MIRROR.format(mirror=mirrors.facade) if mirrors.mirrored else ""
        runtime._name("docker.io", _HOSTS.format(server=server) + mirror)
        runtime.daemon.until(runtime._answers, "containerd answers")
        return runtime

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "containerd.sock"

    def trust(self, registry: str) -> None:
        """Speak plain HTTP to a registry."""
        self._name(registry, _HOSTS.format(server=f"http://{registry}"))

    def mirror(self, namespace: str, server: str) -> None:
        """Pull a namespace's images from the mirror, and from `server`, a host and port, where that fails."""
        self._name(namespace, _HOSTS.format(server=f"http://{server}") + _MIRROR.format(mirror=self.mirrors.facade))

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull."""
        pull = ["images", "pull", "--hosts-dir", str(self.folder / "hosts"), "--platform", platform, image]
        return self.host.start(self._ctr(*pull), name="ctr-pull")

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Mount the image as containerd unpacked it, and read a file."""
        target = self.folder / "mount"
        target.mkdir(exist_ok=True)
        self.host.attempt(self._ctr("snapshots", "remove", str(target)))  # the view of an earlier reading
        arguments = [self.ctr, str(self.socket), platform, image, str(target), path]
        return self.host.run(["sh", "-c", _READ, *arguments])

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

    def _ctr(self, *arguments: str) -> list[str]:
        return [self.ctr, "--address", str(self.socket), *arguments]

    def _name(self, registry: str, hosts: str) -> None:
        folder = self.folder / "hosts" / registry
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(hosts)

    def _answers(self) -> bool:
        return self.socket.exists() and self.host.attempt(self._ctr("version")).returncode == 0


@dataclass(frozen=True, slots=True)
class Containerd24(Containerd):
    """containerd 2.4, whose daemon pulls itself (transfer service), three layers at once for all pulls together."""

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """Start it, and return when it answers."""
        return cls._start(host, mirrors, _CONFIG_4, built("containerd-2.4/containerd"), built("containerd-2.4/ctr"))
