"""crane and regctl, which copy images and run none; the test unpacks what they pull."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.needs import built
from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.layout import layout_folder, read_layout
from tests.e2e.runtimes.runtime import AMD64, Mirrors


@dataclass(frozen=True, slots=True)
class Crane:
    """crane of go-containerregistry."""

    host: Host
    folder: Path
    program: str

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """There is no daemon and no configuration: it is found."""
        return cls(host, host.folder / "crane", built("crane"))

    def push(self, layout: Path, image: str) -> None:
        """Push an image out of a layout that holds no other."""
        self.host.run([self.program, "push", str(layout), image])

    def copy(self, source: str, image: str) -> None:
        """Copy an image with all its platforms from one place to another."""
        self.host.run([self.program, "copy", source, image])

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull into a layout."""
        target = str(layout_folder(self.folder, image, platform))
        return self.host.start([self.program, "pull", "--format", "oci", image, target], name="crane-pull")

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Find the file in the layers of the layout."""
        return read_layout(layout_folder(self.folder, image, platform), path)


@dataclass(frozen=True, slots=True)
class Regctl:
    """regctl of regclient."""

    host: Host
    folder: Path
    program: str

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors) -> Self:
        """There is no daemon: its configuration is written."""
        runtime = cls(host, host.folder / "regctl", built("regctl"))
        runtime.trust(mirrors.facade)
        return runtime

    def trust(self, registry: str) -> None:
        """Speak plain HTTP to a registry."""
        self.run("registry", "set", "--tls", "disabled", "--skip-check", registry)

    def push(self, layout: Path, image: str) -> None:
        """Copy an image out of a layout."""
        self.copy(f"ocidir://{layout}:1", image)

    def copy(self, source: str, image: str) -> None:
        """Copy an image with all its platforms from one place to another."""
        self.run("image", "copy", source, image)

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to copy into a layout."""
        target = f"ocidir://{layout_folder(self.folder, image, platform)}:1"
        return self.host.start([self.program, "image", "copy", image, target], name="regctl-copy")

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Find the file in the layers of the layout."""
        return read_layout(layout_folder(self.folder, image, platform), path)

    def run(self, *arguments: str) -> str:
        """Run one command, and return what it printed."""
        return self.host.run([self.program, *arguments]).decode()

    def artifact(self, *named: str) -> bytes:
        """The only file of an artifact."""
        return self.host.run([self.program, "artifact", "get", *named])
