"""Images made from a seed, written straight into a registry's storage folder.

The layout is that of the `filesystem` driver of distribution (2.x and 3.x alike). Writing it saves the time of pushing
gigabytes; the registry reads such blobs as it reads pushed ones.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MIB = 1 << 20
_STAMP = 32
_BASE_PIECES = 32
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in the upstream's storage."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Image:
    """A tagged image in the upstream's storage."""

    repository: str
    tag: str
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]

    def manifest_path(self) -> str:
        """The request target of the manifest, by digest."""
        return f"/v2/{self.repository}/manifests/{self.manifest.digest}"

    def blob_path(self, blob: Blob) -> str:
        """The request target of one of its blobs."""
        return f"/v2/{self.repository}/blobs/{blob.digest}"


@cache
def _base() -> memoryview:
    return memoryview(random.Random("layermesh bench").randbytes(_BASE_PIECES * MIB))


def pieces(seed: str, size: int) -> Iterator[memoryview]:
    """The `size` bytes that `seed` stands for; incompressible to a hash, and no two MiB of any two seeds are equal."""
    for index, start in enumerate(range(0, size, MIB)):
        length = min(MIB, size - start)
        stamp = hashlib.sha256(f"{seed}/{index}".encode()).digest()
        yield memoryview(stamp)[:length]
        offset = index % _BASE_PIECES * MIB
        yield _base()[offset + _STAMP : offset + length]


class UpstreamStorage:
    """The storage folder of a docker-registry."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._v2 = root / "docker/registry/v2"

    def image(self, repository: str, tag: str, layer_sizes: Sequence[int]) -> Image:
        """An image whose layers are made from its name."""
        seed = f"{repository}:{tag}"
        layers = tuple(
            self._blob(repository, list(pieces(f"{seed}/layer {n}", size)), _LAYER_TYPE)
            for n, size in enumerate(layer_sizes)
        )
        config = self._blob(repository, [memoryview(_config(seed, layers))], _CONFIG_TYPE)
        manifest = self._blob(repository, [memoryview(_manifest(config, layers))], MANIFEST_TYPE)
        manifests = self._v2 / "repositories" / repository / "_manifests"
        hex_part = manifest.digest.partition(":")[2]
        self._link(manifests / "revisions/sha256" / hex_part, manifest.digest)
        self._link(manifests / "tags" / tag / "current", manifest.digest)
        self._link(manifests / "tags" / tag / "index/sha256" / hex_part, manifest.digest)
        return Image(repository, tag, manifest, config, layers)

    def _blob(self, repository: str, data: Sequence[memoryview], media_type: str) -> Blob:
        hasher = hashlib.sha256()
        self._v2.mkdir(parents=True, exist_ok=True)
        temporary = self._v2 / "growing"
        with temporary.open("wb") as file:
            for piece in data:
                file.write(piece)
                hasher.update(piece)
        hex_part = hasher.hexdigest()
        path = self.blob_file(f"sha256:{hex_part}")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(path)
        self._link(self._v2 / "repositories" / repository / "_layers/sha256" / hex_part, f"sha256:{hex_part}")
        return Blob(f"sha256:{hex_part}", sum(map(len, data)), media_type)

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob's bytes."""
        hex_part = digest.partition(":")[2]
        return self._v2 / "blobs/sha256" / hex_part[:2] / hex_part / "data"

    @staticmethod
    def _link(folder: Path, digest: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "link").write_text(digest)


def _config(seed: str, layers: Sequence[Blob]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}}, "rootfs": rootfs}
    return json.dumps(config).encode()


def _manifest(config: Blob, layers: Sequence[Blob]) -> bytes:
    def descriptor(blob: Blob) -> dict[str, str | int]:
        return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(config),
        "layers": [descriptor(layer) for layer in layers],
    }
    return json.dumps(manifest).encode()
