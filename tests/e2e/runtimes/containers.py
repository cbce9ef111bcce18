"""Podman and skopeo (containers/image), with the mirror in registries.conf."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.layout import layout_folder, read_layout
from tests.e2e.runtimes.runtime import AMD64, Login, Mirrors, said

_REGISTRIES = """\
[[registry]]
location = "{facade}"
insecure = true

[[registry]]
prefix = "docker.io"
location = "{upstream}"
insecure = true
"""
_MIRROR = """
[[registry.mirror]]
location = "{facade}/docker.io"
insecure = true
"""
_NAMESPACE = """
[[registry]]
prefix = "{namespace}"
location = "{server}"
insecure = true

[[registry.mirror]]
location = "{mirror}/{namespace}"
insecure = true
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
_ENGINE = """\
[engine]
events_logger = "none"
lock_type = "file"
"""
# Their cache of known blobs is always in /var/lib/containers: a folder of this process alone.
_OWN_CACHE = 'mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers && exec "$0" "$@"'


def _configure(folder: Path, mirrors: Mirrors) -> dict[str, str]:
    """Write the configuration both read; the environment that makes them read it is returned."""
    folder.mkdir(parents=True)
    registries = _REGISTRIES + (_MIRROR if mirrors.mirrored else "")
    written = registries.format(facade=mirrors.facade, upstream=mirrors.upstream or "docker.io")
    (folder / "registries.conf").write_text(written)
    (folder / "containers.conf").write_text(_ENGINE)
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    (folder / "policy.json").write_text(json.dumps(_POLICY))
    (folder / "auth.json").write_text("{}")
    return {
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        "TMPDIR": str(folder),
    }


def _add_mirror(folder: Path, mirrors: Mirrors, namespace: str, server: str) -> None:
    with (folder / "registries.conf").open("a") as file:
        file.write(_NAMESPACE.format(namespace=namespace, server=server, mirror=mirrors.facade))


def _log_in(host: Host, environment: dict[str, str], program: str, logins: Mapping[str, Login]) -> None:
    """Have these logins and no others, but for those that are refused: registry, or path in one -> login."""
    Path(environment["REGISTRY_AUTH_FILE"]).write_text("{}")
    for place, (user, password) in logins.items():
        login = [program, "login", "--tls-verify=false", "--username", user, "--password", password, place]
        host.attempt(["sh", "-c", _OWN_CACHE, *login], environment=environment)


@dataclass(frozen=True, slots=True)
class _Containers(ABC):
    """A program of containers/image, with its configuration in the test's folder."""

    host: Host
    folder: Path
    environment: dict[str, str]
    mirrors: Mirrors
    servers: list[str] = field(default_factory=list)

    program: ClassVar[str]

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """There is no daemon: its configuration is written."""
        folder = host.folder / cls.program
        return cls(host, folder, _configure(folder, mirrors), mirrors)

    def mirror(self, namespace: str, server: str) -> None:
        """Pull a namespace's images from the mirror, and from `server`, a host and port, where that fails."""
        _add_mirror(self.folder, self.mirrors, namespace, server)
        self.servers.append(server)

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image, logged in at the mirror and at all servers; see `attempt_with`."""
        places = (self.mirrors.facade, *self.servers) if login else ()
        return self.attempt_with(image, {place: login for place in places if login})

    @abstractmethod
    def attempt_with(self, image: str, logins: Mapping[str, Login]) -> str | None:
        """Pull an image with logins by place, and forget it again; None when it came, else what was said."""


@dataclass(frozen=True, slots=True)
class Podman(_Containers):
    """Podman with its storage in the test's folder."""

    program: ClassVar[str] = "podman"

    def attempt_with(self, image: str, logins: Mapping[str, Login]) -> str | None:
        """Implements `_Containers.attempt_with`."""
        _log_in(self.host, self.environment, self.program, logins)
        policy = ["--signature-policy", str(self.folder / "policy.json")]
        if failure := said(self.host.attempt(self._podman("pull", *policy, image), environment=self.environment)):
            return failure
        self.host.run(self._podman("rmi", image), environment=self.environment)
        return None

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull."""
        policy = ["--signature-policy", str(self.folder / "policy.json")]
        argv = self._podman("pull", *policy, "--platform", platform, image)
        return self.host.start(argv, name="podman-pull", environment=self.environment)

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Mount the image as Podman unpacked it, and read a file; it knows one platform of a name at a time."""
        script = 'at=$("$@") && cat "$at/$0"'
        argv = ["sh", "-c", script, path, *self._podman("image", "mount", image)]
        return self.host.run(argv, environment=self.environment)

    def push(self, layout: Path, image: str, *options: str) -> None:
        """Pull an image out of a layout, and push it."""
        policy = ["--signature-policy", str(self.folder / "policy.json")]
        push = self._podman("push", *policy, *options, self._pulled_from(layout), image)
        self.host.run(push, environment=self.environment)

    def save(self, layout: Path, target: Path) -> None:
        """Pull an image out of a layout, and write it to another one."""
        save = self._podman(
            "save", "--quiet", "--format", "oci-dir", "--output", str(target), self._pulled_from(layout)
        )
        self.host.run(save, environment=self.environment)

    def _pulled_from(self, layout: Path) -> str:
        policy = ["--signature-policy", str(self.folder / "policy.json")]
        pull = self._podman("pull", "--quiet", *policy, f"oci:{layout}:1")
        return self.host.run(pull, environment=self.environment).decode().strip()

    def _podman(self, *arguments: str) -> list[str]:
        return [
            "sh",
            "-c",
            _OWN_CACHE,
            "podman",
            "--tmpdir",
            f"{self.folder}/tmp",
            "--cgroup-manager",
            "cgroupfs",
            *arguments,
        ]


@dataclass(frozen=True, slots=True)
class Skopeo(_Containers):
    """skopeo, copying into an OCI layout, which the test unpacks itself."""

    program: ClassVar[str] = "skopeo"

    def attempt_with(self, image: str, logins: Mapping[str, Login]) -> str | None:
        """Implements `_Containers.attempt_with`."""
        _log_in(self.host, self.environment, self.program, logins)
        copy = [*self._skopeo(), "--override-arch", "amd64", "copy", f"docker://{image}", f"dir:{self.folder}/copied"]
        failure = said(self.host.attempt(["sh", "-c", _OWN_CACHE, *copy], environment=self.environment))
        shutil.rmtree(self.folder / "copied", ignore_errors=True)
        return failure

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to copy."""
        system, _, architecture = platform.partition("/")
        wanted = ["--override-os", system, "--override-arch", architecture]
        layout = f"oci:{layout_folder(self.folder, image, platform)}"
        argv = [*self._skopeo(), *wanted, "copy", f"docker://{image}", layout]
        return self.host.start(["sh", "-c", _OWN_CACHE, *argv], name="skopeo-copy", environment=self.environment)

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Find the file in the layers of the layout; the topmost counts."""
        return read_layout(layout_folder(self.folder, image, platform), path)

    def push(self, layout: Path, image: str, *options: str) -> None:
        """Copy an image out of a layout."""
        self.copy(f"oci:{layout}:1", f"docker://{image}", *options)

    def copy(self, source: str, target: str, *options: str) -> None:
        """Copy an image between places that skopeo knows."""
        copy = [*self._skopeo(), "copy", *options, source, target]
        self.host.run(["sh", "-c", _OWN_CACHE, *copy], environment=self.environment)

    def _skopeo(self) -> list[str]:
        own = ["--policy", str(self.folder / "policy.json"), "--registries-conf", str(self.folder / "registries.conf")]
        return ["skopeo", *own]
