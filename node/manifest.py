"""Manifests, indexes and descriptors (OCI image specification 1.1; Docker image manifest version 2, schema 2)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from node.digest import Digest
from node.errors import InvalidError

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
MAX_BLOB_BYTES: Final = 1 << 40
MAX_NAMED: Final = 4096
"""Descriptors in one manifest; images have at most a few hundred layers or platforms."""
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES: Final = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
_NON_DISTRIBUTABLE: Final = ("nondistributable", "foreign")


class Role(StrEnum):
    """What a descriptor stands for in the manifest that names it."""

    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob that a manifest names: media type, digest, size in bytes."""

    media_type: str
    digest: Digest
    size: int
    role: Role = Role.LAYER

    @property
    def distributable(self) -> bool:
        """False for layers that registries need not hold; their `urls` are never fetched."""
        return not any(word in self.media_type for word in _NON_DISTRIBUTABLE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index: its exact bytes, and what they name.

    `artifact_type`: what the manifest says, else its config's media type; empty for an index that says nothing.
    """

    media_type: str
    digest: Digest
    data: bytes
    names: tuple[Descriptor, ...]
    subject: Digest | None = None
    artifact_type: str = ""

    @property
    def is_index(self) -> bool:
        """Whether it names manifests rather than a config and layers."""
        return self.media_type in INDEX_TYPES


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str = ""
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None


class _Annotated(msgspec.Struct):
    annotations: dict[str, str] | None = None


def parse_manifest(data: bytes, content_type: str | None = None, digest: Digest | None = None) -> Manifest:
    """Read a manifest or index of schema version 2, keeping its exact bytes.

    `content_type` is the one it came with (parameters ignored), `digest` the name it is known by (sha256 of `data` when
    None; the caller has verified it otherwise).

    Raises:
        InvalidError: when it is too large, no manifest, or readable as two types (CVE-2021-41190).
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidError(f"manifest of {len(data)} bytes: at most {MAX_MANIFEST_BYTES} are accepted")
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"manifest: {error}") from None
    media_type = _media_type(document, content_type)
    return Manifest(
        media_type=media_type,
        digest=digest or Digest.of(data),
        data=data,
        names=tuple(_named(document)),
        subject=Digest.parse(document.subject.digest) if document.subject else None,
        artifact_type=document.artifact_type or (document.config.media_type if document.config else ""),
    )


def annotations_of(data: bytes) -> dict[str, str]:
    """The annotations of a manifest or index; none where they are malformed."""
    try:
        return msgspec.json.decode(data, type=_Annotated).annotations or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _media_type(document: _Document, content_type: str | None) -> str:
    if document.schema_version != 2:
        raise InvalidError(f"manifest: schemaVersion {document.schema_version} is not supported, only 2")
    is_index = document.manifests is not None
    if is_index and (document.layers is not None or document.config is not None):
        raise InvalidError("manifest: it has both manifests and layers, and could be read as two types")
    if not is_index and document.config is None:
        raise InvalidError("manifest: it has neither manifests nor a config")
    declared = document.media_type
    given = (content_type or "").partition(";")[0].strip()
    if given not in MANIFEST_TYPES:
        given = ""
    if declared and given and declared != given:
        raise InvalidError(f"manifest: mediaType {declared[:80]!r} is not its Content-Type {given!r}")
    media_type = declared or given or (OCI_INDEX if is_index else OCI_MANIFEST)
    if media_type not in MANIFEST_TYPES:
        raise InvalidError(f"manifest: media type {media_type[:80]!r} is not supported")
    if (media_type in INDEX_TYPES) != is_index:
        raise InvalidError(f"manifest: its content is not what media type {media_type!r} says")
    return media_type


def _named(document: _Document) -> list[Descriptor]:
    named = [(_role(item), item) for item in document.manifests or ()]
    if document.config is not None:
        named.append((Role.CONFIG, document.config))
    named.extend((Role.LAYER, item) for item in document.layers or ())
    if len(named) > MAX_NAMED:
        raise InvalidError(f"manifest: it names {len(named)} blobs, at most {MAX_NAMED} are accepted")
    return [_descriptor(item, role) for role, item in named]


def _role(child: _Descriptor) -> Role:
    """What an index names: a manifest, but where it says otherwise, as BuildKit does of the layers in its cache."""
    return Role.MANIFEST if child.media_type in ("", *MANIFEST_TYPES) else Role.LAYER


def _descriptor(item: _Descriptor, role: Role) -> Descriptor:
    if not 0 <= item.size <= MAX_BLOB_BYTES:
        raise InvalidError(f"manifest: descriptor {item.digest[:80]!r} has size {item.size}")
    return Descriptor(item.media_type, Digest.parse(item.digest), item.size, role)
