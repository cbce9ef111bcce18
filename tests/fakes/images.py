"""Images made from a seed: real layers, config, manifest and index, the same bytes on every run."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from node.digest import Algorithm, Digest
from node.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST


class Flavour(StrEnum):
    """Whose media types an image has."""

    OCI = "oci"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class _Types:
    index: str
    manifest: str
    config: str
    layer: str


_TYPES = {
    Flavour.OCI: _Types(
        OCI_INDEX,
        OCI_MANIFEST,
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ),
    Flavour.DOCKER: _Types(
        DOCKER_LIST,
        DOCKER_MANIFEST,
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
}


@dataclass(frozen=True, slots=True)
class Blob:
    """Some bytes with the media type a manifest gives them."""

    media_type: str
    digest: Digest
    data: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    @property
    def described(self) -> dict[str, Any]:
        """Its descriptor, as manifests hold it."""
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}


@dataclass(frozen=True, slots=True)
class FakeImage:
    """One platform's image. `files`: path in the unpacked image -> content."""

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    architecture: str
    files: Mapping[str, bytes]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Config and layers: all that is fetched from /blobs/."""
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class FakeIndex:
    """A multi-platform image."""

    manifest: Blob
    images: tuple[FakeImage, ...]


def make_bytes(seed: str, size: int) -> bytes:
    """`size` bytes that depend on the seed only and do not compress."""
    return hashlib.shake_256(seed.encode()).digest(size)


def make_image(
    seed: str,
    layer_bytes: Sequence[int] = (300_000, 1_200_000, 2_700_000),
    *,
    flavour: Flavour = Flavour.OCI,
    architecture: str = "amd64",
    algorithm: Algorithm = Algorithm.SHA256,
) -> FakeImage:
    """An image with one gzipped tar layer for each size, holding one file of that size that does not compress.

    `algorithm` names its layers and its config; the manifest itself is always named by sha256.
    """
    types = _TYPES[flavour]
    files = {
        f"layers/{number}.bin": make_bytes(f"{seed}/{architecture}/{number}", size)
        for number, size in enumerate(layer_bytes)
    }
    tars = [_tar(name, content) for name, content in files.items()]
    layers = tuple(_blob(types.layer, gzip.compress(tar, compresslevel=0, mtime=0), algorithm) for tar in tars)
    document = {
        "created": "2025-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Labels": {"seed": seed}, "Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
        "history": [{"created": "2025-01-01T00:00:00Z", "created_by": name} for name in files],
    }
    config = _blob(types.config, _json(document), algorithm)
    described = {
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": config.described,
        "layers": [layer.described for layer in layers],
    }
    return FakeImage(_blob(types.manifest, _json(described)), config, layers, architecture, files)


def make_index(
    seed: str,
    layer_bytes: Sequence[int] = (300_000, 1_200_000),
    *,
    flavour: Flavour = Flavour.OCI,
    architectures: Sequence[str] = ("amd64", "arm64"),
) -> FakeIndex:
    """An index over one image per architecture; no layer is shared between them."""
    images = tuple(
        make_image(seed, layer_bytes, flavour=flavour, architecture=architecture) for architecture in architectures
    )
    types = _TYPES[flavour]
    document = {
        "schemaVersion": 2,
        "mediaType": types.index,
        "manifests": [
            {**image.manifest.described, "platform": {"architecture": image.architecture, "os": "linux"}}
            for image in images
        ],
    }
    return FakeIndex(_blob(types.index, _json(document)), images)


def all_blobs(image: FakeImage | FakeIndex) -> Iterator[Blob]:
    """Every manifest, config and layer of it, leaves first."""
    if isinstance(image, FakeIndex):
        for child in image.images:
            yield from all_blobs(child)
    else:
        yield from image.blobs
    yield image.manifest


def write_layout(folder: Path, tagged: Mapping[str, FakeImage | FakeIndex]) -> None:
    """Write an OCI image layout (image-layout.md) that `skopeo copy oci:FOLDER:TAG` reads; for the OCI flavour only."""
    for image in tagged.values():
        for blob in all_blobs(image):
            path = folder / "blobs" / blob.digest.algorithm / blob.digest.hex
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob.data)
    manifests = [
        {**image.manifest.described, "annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, image in tagged.items()
    ]
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": manifests}))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        directory = tarfile.TarInfo(name.rpartition("/")[0])
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _blob(media_type: str, data: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Blob:
    return Blob(media_type, Digest.of(data, algorithm), data)
