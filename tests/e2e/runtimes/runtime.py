"""What the tests ask of every container runtime."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.process import Process
from tests.fakes.images import FakeImage

AMD64 = "linux/amd64"
ARM64 = "linux/arm64"


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where `docker.io` is mirrored, as seen from the runtime's own host, and where it is itself."""

    facade: str = "127.0.0.1:5050"
    docker: str = "127.0.0.1:5053"
    upstream: str | None = None
    """An address that stands for `docker.io` and speaks plain HTTP; None: the real one, to which there is no way."""
    mirrored: bool = True
    """False: the runtime asks `upstream` and nobody else."""


Login = tuple[str, str]
"""A user's name and password."""


class Runtime(Protocol):
    """A container runtime that has no way to the real `docker.io`: its mirror is all it has, or what stands for it."""

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to pull `docker.io/...`, by tag or digest; the process ends when the image is here."""

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """The content of a file of a pulled image, as unpacked by this runtime."""


class Pusher(Runtime, Protocol):
    """A runtime, or another tool, that pushes as well."""

    def push(self, layout: Path, image: str) -> None:
        """Take the image tagged `1` of an OCI image layout, and push it as `image`.

        Raises:
            AssertionError: with what it said, when it cannot.
        """


class LogsIn(Protocol):
    """A client that can log in."""

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Pull an image with a login, and forget it again; None when it came, else what was said."""


class Mirrored(LogsIn, Protocol):
    """One that goes to a registry itself where its mirror does not give an image, whatever the registry is."""

    def mirror(self, namespace: str, server: str) -> None:
        """Pull a namespace's images from the mirror, and from `server`, a host and port, where that fails."""


def said(done: "subprocess.CompletedProcess[bytes]") -> str | None:
    """What a command said that failed; None when it did not."""
    return (done.stdout + done.stderr).decode(errors="replace") if done.returncode else None


def pull(runtime: Runtime, image: str, platform: str = AMD64, within_s: float = 60) -> None:
    """Pull an image, and wait until it is here.

    Raises:
        AssertionError: with what the runtime said, when it cannot.
    """
    runtime.pulling(image, platform).finish(within_s)


def assert_unpacked(runtime: Runtime, image: str, content: FakeImage, platform: str = AMD64) -> None:
    """Check every file of a pulled image.

    Raises:
        AssertionError: naming the file that is not as it was made.
    """
    for path, data in content.files.items():
        same = runtime.read(image, path, platform) == data  # pytest would take minutes to show where they differ
        assert same, f"{path} of {image} for {platform} has other bytes"
