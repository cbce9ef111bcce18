"""BuildKit: a buildkitd of this test alone, with runc, and buildctl."""

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.needs import built
from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.e2e.runtimes.layout import layout_folder
from tests.e2e.runtimes.runtime import AMD64, Login, Mirrors, said

_CONFIG: Final = """\
root = "{folder}/root"

[grpc]
address = ["unix://{folder}/buildkitd.sock"]

[worker.oci]
enabled = true
binary = "runc"
snapshotter = "overlayfs"
networkMode = "host"

[worker.containerd]
enabled = false

[registry."{facade}"]
http = true
"""
_MIRROR: Final = """
[registry."{namespace}"]
mirrors = ["{facade}"]
"""
# It keeps sockets and temporary files in /run/buildkit and more below /run: a folder of this process alone.
_ALONE: Final = ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" "$@"']
NOTE: Final = "built/note"


@dataclass(frozen=True, slots=True)
class BuildKit:
    """It builds from an image, and pushes what it built, which has the file `NOTE` besides."""

    host: Host
    folder: Path
    daemon: Process
    buildctl: str
    facade: str

    @classmethod
    def start(cls, host: Host, mirrors: Mirrors, *namespaces: str) -> Self:
        """Start buildkitd, and return when it answers; it knows the mirror as one of these namespaces as well."""
        folder = host.folder / "buildkit"
        folder.mkdir(parents=True)
        config = folder / "buildkitd.toml"
        mirrored = [_MIRROR.format(namespace=each, facade=mirrors.facade) for each in ("docker.io", *namespaces)]
        config.write_text(_CONFIG.format(folder=folder, facade=mirrors.facade) + "".join(mirrored))
        daemon = host.start([*_ALONE, built("buildkitd"), "--config", str(config)], name="buildkitd")
        runtime = cls(host, folder, daemon, built("buildctl"), mirrors.facade)
        runtime.daemon.until(runtime._answers, "buildkitd answers")
        return runtime

    def push(self, layout: Path, image: str) -> None:
        """Build upon an image of a layout, and push the result."""
        self.build(layout, image)

    def build(self, layout: Path, image: str, *options: str) -> str:
        """Build upon an image of a layout, and push the result; what was said of it."""
        [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
        context = self._context("push", f"FROM base\nCOPY note /{NOTE}\n")
        (context / "note").write_text("built")
        base = ["--oci-layout", f"store={layout}", "--opt", f"context:base=oci-layout://store@{entry['digest']}"]
        output = ["--output", f"type=image,name={image},push=true,registry.insecure=true"]
        building = self.host.start(self._build(context, *base, *output, *options), name="buildctl-build")
        return building.finish()

    def pulling(self, image: str, platform: str = AMD64) -> Process:
        """Begin to build upon `image`; what is in it is unpacked into a folder."""
        target = layout_folder(self.folder, image, platform)
        context = self._context("pull", f"FROM {image}\n")
        output = ["--output", f"type=local,dest={target}", "--opt", f"platform={platform}"]
        return self.host.start(self._build(context, *output), name="buildctl-build")

    def attempt(self, image: str, login: Login | None) -> str | None:
        """Build upon an image with a login at the facade; None when it came, else what was said."""
        auth = {"auth": b64encode(":".join(login).encode()).decode()} if login else {}
        docker = self.folder / f"docker-{login[0] if login else ''}"  # a folder is a person: tokens are shared in it
        docker.mkdir(exist_ok=True)
        (docker / "config.json").write_text(json.dumps({"auths": {self.facade: auth}}))
        self.host.run([*self._client(), "prune", "--all"])
        context = self._context("pull", f"FROM {image}\n")
        target = layout_folder(self.folder, image, AMD64)
        build = self._build(context, "--output", f"type=local,dest={target}", "--opt", f"platform={AMD64}")
        return said(self.host.attempt(build, environment={"DOCKER_CONFIG": str(docker)}))

    def read(self, image: str, path: str, platform: str = AMD64) -> bytes:
        """Read a file of what was unpacked."""
        return (layout_folder(self.folder, image, platform) / path).read_bytes()

    def _context(self, name: str, dockerfile: str) -> Path:
        context = self.folder / name
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(dockerfile)
        return context

    def _build(self, context: Path, *options: str) -> list[str]:
        local = ["--local", f"context={context}", "--local", f"dockerfile={context}"]
        return [*self._client(), "build", "--progress", "plain", "--frontend", "dockerfile.v0", *local, *options]

    def _client(self) -> list[str]:
        return [self.buildctl, "--addr", f"unix://{self.folder}/buildkitd.sock"]

    def _answers(self) -> bool:
        return self.host.attempt([*self._client(), "debug", "workers"]).returncode == 0
