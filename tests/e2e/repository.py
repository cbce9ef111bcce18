"""A client of the cluster's own repositories, which sees every status, header and byte."""

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.digest import Digest
from node.manifest import MANIFEST_TYPES, OCI_MANIFEST
from tests.e2e.mesh import FACADE, Node
from tests.e2e.network import Answer
from tests.fakes.images import Blob, FakeImage

EMPTY: Final = Blob("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), b"{}")
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OwnRepository:
    """A repository as one node has it."""

    node: Node
    name: str

    def ask(self, method: str, path: str, body: bytes | None = None, media_type: str | None = None) -> Answer:
        """One request over a connection of its own; `path` is behind the repository's address, or a Location."""
        headers = {"Content-Type": media_type} if media_type else {"Accept": ", ".join(MANIFEST_TYPES)}
        return self.node.host.request(self._url(path), method=method, headers=headers, body=body)

    def begin(self) -> str:
        """Begin an upload; its Location."""
        return _created(self.ask("POST", "blobs/uploads/"), 202).headers["Location"]

    def finish(self, location: str, digest: Digest) -> Answer:
        """Name the blob that an upload is, when all of it has come."""
        return _created(self.ask("PUT", f"{location}?digest={digest}"))

    def put_blob(self, blob: Blob) -> None:
        """Push a blob."""
        _created(self.ask("PUT", f"{self.begin()}?digest={blob.digest}", blob.data, "application/octet-stream"))

    def put_manifest(self, reference: str, manifest: Blob) -> Answer:
        """Push a manifest."""
        return _created(self.ask("PUT", f"manifests/{reference}", manifest.data, manifest.media_type))

    def push(self, image: FakeImage, tag: str) -> None:
        """Push all of an image."""
        for blob in image.blobs:
            self.put_blob(blob)
        self.put_manifest(tag, image.manifest)

    def put_document(
        self, reference: str | None, config: Blob, layers: Sequence[Mapping[str, Any]], **more: object
    ) -> Blob:
        """Push a manifest that names what was pushed before, under its digest where there is no reference."""
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **more, "config": config.described}
        data = json.dumps({**document, "layers": layers}).encode()
        manifest = Blob(OCI_MANIFEST, Digest.of(data), data)
        self.put_manifest(reference or str(manifest.digest), manifest)
        return manifest

    def read(self, path: str) -> Answer:
        """What a GET gives.

        Raises:
            AssertionError: when that is not 200.
        """
        return _created(self.ask("GET", path), 200)

    def document(self, path: str) -> Any:
        """What a GET gives, read as JSON; raises as `read`."""
        return json.loads(self.read(path).body)

    def assert_holds(self, image: FakeImage, tag: str) -> None:
        """Read all of an image, by its tag and its digest.

        Raises:
            AssertionError: when anything is not as it was pushed.
        """
        for reference in (tag, image.manifest.digest):
            answer = self.read(f"manifests/{reference}")
            assert answer.body == image.manifest.data, f"{self.name}:{reference} has another manifest"
            assert answer.headers["Content-Type"] == image.manifest.media_type
        for blob in image.blobs:
            same = self.read(f"blobs/{blob.digest}").body == blob.data
            assert same, f"{blob.digest} has other bytes"

    def append(self, location: str, start: int, pieces: Iterable[bytes]) -> Answer:
        """Send a body of unknown length to an upload that has `start` bytes.

        Raises:
            OSError: when the connection breaks.
        """
        headers = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        with self._connected() as connection:
            connection.request("PATCH", location, body=iter(pieces), headers=headers, encode_chunked=True)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def hash_blob(self, digest: Digest) -> tuple[int, Digest]:
        """Read a blob of any size; how many bytes came, and what they hash to."""
        hashed, size = hashlib.new(digest.algorithm), 0
        with self._connected() as connection:
            connection.request("GET", f"/v2/{self.name}/blobs/{digest}")
            response = connection.getresponse()
            assert response.status == 200, response.read()
            while piece := response.read(_PIECE):
                hashed.update(piece)
                size += len(piece)
        return size, Digest(digest.algorithm, hashed.hexdigest())

    def _url(self, path: str) -> str:
        return f"{FACADE}{path}" if path.startswith("/v2/") else f"{FACADE}/v2/{self.name}/{path}"

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        connection = self.node.host.connect("127.0.0.1", 5050)
        with contextlib.closing(connection):
            yield connection


def _created(answer: Answer, status: int = 201) -> Answer:
    assert answer.status == status, (answer.status, answer.body[:500])
    return answer
