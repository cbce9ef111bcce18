"""The upstream: Debian's docker-registry, holding images that are made from a seed."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.network import Host
from tests.e2e.process import Process
from tests.fakes.images import Blob, FakeImage, FakeIndex

PORT: Final = 5000
_CONFIG: Final = """\
version: 0.1
log:
  level: info
  accesslog:
    disabled: false
storage:
  filesystem:
    rootdirectory: {storage}
  cache:
    blobdescriptor: inmemory
http:
  addr: {address}
"""
_USERS: Final = """\
auth:
  htpasswd:
    realm: registry
    path: {file}
"""
_LOGIN: Final = re.compile(
    r'"authorized request".* http\.request\.uri="?/v2/\S+/(?:manifests|blobs)/.* http\.request\.useragent="?([\w-]+)'
)


@dataclass
class Registry:
    """A docker-registry of this test alone; it can be stopped and come back."""

    host: Host
    storage: Path
    process: Process
    users: str

    @classmethod
    def start(cls, host: Host, storage: Path, users: str = "") -> Self:
        """Start it over `storage`, and return when it answers. `users`: the lines of an htpasswd file; none: open."""
        return cls(host, storage, cls._launch(host, storage, users), users)

    @property
    def address(self) -> str:
        """Host and port, as others on the network reach it."""
        return f"{self.host.address}:{PORT}"

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{self.address}"

    def stop(self) -> None:
        """Nothing listens here any more."""
        self.process.terminate(within_s=10)

    def start_again(self) -> None:
        """The same registry, back with the same images."""
        self.process = self._launch(self.host, self.storage, self.users)

    def push(self, repository: str, tag: str, content: FakeImage | FakeIndex) -> None:
        """Upload an image, or a multi-platform image with all it names."""
        images = content.images if isinstance(content, FakeIndex) else (content,)
        for image in images:
            for blob in image.blobs:
                self._put_blob(repository, blob)
            self._put_manifest(repository, str(image.manifest.digest), image.manifest)
        self._put_manifest(repository, tag, content.manifest)

    def requests_from(self, host: Host) -> list[str]:
        """The lines of its access log that `host` caused."""
        return [line for line in self.process.output().splitlines() if line.startswith(f"{host.address} ")]

    def logins(self) -> list[str]:
        """The program that sent each request so far for a manifest or blob that came with a right login."""
        return _LOGIN.findall(self.process.output(1 << 25))

    def _put_blob(self, repository: str, blob: Blob) -> None:
        begun = self.host.request(f"{self.url}/v2/{repository}/blobs/uploads/", method="POST")
        assert begun.status == 202, begun
        target = f"{begun.headers['Location']}&digest={blob.digest}"
        headers = {"Content-Type": "application/octet-stream"}
        ended = self.host.request(target, method="PUT", headers=headers, body=blob.data)
        assert ended.status == 201, ended

    def _put_manifest(self, repository: str, reference: str, manifest: Blob) -> None:
        url = f"{self.url}/v2/{repository}/manifests/{reference}"
        headers = {"Content-Type": manifest.media_type}
        answer = self.host.request(url, method="PUT", headers=headers, body=manifest.data)
        assert answer.status == 201, answer

    @staticmethod
    def _launch(host: Host, storage: Path, users: str) -> Process:
        config, file = host.folder / "registry.yml", host.folder / "htpasswd"
        address = f"{host.address}:{PORT}"
        config.write_text(
            _CONFIG.format(storage=storage, address=address) + (_USERS.format(file=file) if users else "")
        )
        file.write_text(users)
        process = host.start(["docker-registry", "serve", str(config)], name="registry")
        asked = {200, 401} if users else {200}
        process.until(lambda: host.status(f"http://{address}/v2/") in asked, "the registry answers")
        return process
