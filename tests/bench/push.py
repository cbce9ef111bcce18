"""A client that pushes, over one keep-alive connection."""

import hashlib
import http.client
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from urllib.parse import urlsplit

from tests.bench.content import MANIFEST_TYPE, Image, UpstreamStorage
from tests.bench.rows import MeasureError

_LIMIT_S = 120.0


def push_blob(port: int, repository: str, digest: str, size: int, data: Callable[[], Iterable[bytes]]) -> float:
    """POST, then PUT of the whole; the seconds from the PUT to its 201.

    Raises:
        MeasureError: when the registry answers something else.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)) as connection:
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        location = urlsplit(_expect(connection, 202).headers["Location"])
        target = f"{location.path}?{location.query}&" if location.query else f"{location.path}?"
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        started = time.perf_counter()
        connection.request("PUT", f"{target}digest={digest}", body=data(), headers=headers)
        _expect(connection, 201)
        return time.perf_counter() - started


def push_image(port: int, image: Image, storage: UpstreamStorage) -> None:
    """Push an image whose blobs lie in a registry's storage folder."""
    for blob in (image.config, *image.layers):
        content = storage.blob_file(blob.digest).read_bytes()
        push_blob(port, image.repository, blob.digest, blob.size, lambda content=content: [content])  # type: ignore[misc]
    data = storage.blob_file(image.manifest.digest).read_bytes()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)) as connection:
        target = f"/v2/{image.repository}/manifests/{image.tag}"
        connection.request("PUT", target, body=data, headers={"Content-Type": MANIFEST_TYPE})
        _expect(connection, 201)


def digest_of(algorithm: str, data: Iterable[bytes]) -> str:
    """The digest of what is pushed."""
    hasher = hashlib.new(algorithm)
    for piece in data:
        hasher.update(piece)
    return f"{algorithm}:{hasher.hexdigest()}"


def _expect(connection: http.client.HTTPConnection, status: int) -> http.client.HTTPResponse:
    response = connection.getresponse()
    body = response.read()
    if response.status != status:
        raise MeasureError(f"a push was answered {response.status}: {body[:300]!r}")
    return response
