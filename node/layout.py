"""OCI image layouts (OCI image specification 1.1, image-layout.md): what their files say, and images' names in them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from node.digest import Digest
from node.errors import InvalidError
from node.manifest import MANIFEST_TYPES, MAX_MANIFEST_BYTES, OCI_INDEX
from node.reference import DOCKER_HUB, OWN, Repository, Tag

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
BLOBS: Final = "blobs"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
MOST_IMAGES: Final = 1000
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_IMAGE_NAME: Final = "io.containerd.image.name"
_BARE_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LONGEST_NAME: Final = 512


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's name: a repository, and a tag where it has one."""

    repository: Repository
    tag: Tag | None = None

    def __str__(self) -> str:
        """As layouts have it: the cluster's own repositories are named without a registry."""
        repository = self.repository
        name = repository.name if repository.namespace == OWN else str(repository)
        return f"{name}:{self.tag}" if self.tag else name


@dataclass(frozen=True, slots=True)
class Listed:
    """An image that a layout lists.

    `name`: by which it is to be known, as it stands there, empty where nothing does; `tag`: where only that does.
    """

    media_type: str
    digest: Digest
    size: int
    name: str = ""
    tag: str = ""


class _Entry(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct, rename="camel"):
    schema_version: int
    manifests: list[_Entry]


class _Layout(msgspec.Struct, rename="camel"):
    image_layout_version: str


def blob_path(digest: Digest) -> tuple[str, ...]:
    """Where a layout has a blob."""
    return BLOBS, digest.algorithm.value, digest.hex


def parse_image_name(text: str) -> ImageName:
    """Read `[HOST/]NAME[:TAG][@DIGEST]` as layouts have it: without a registry it is one of the cluster's own.

    Raises:
        InvalidError: naming the part that is malformed.
    """
    rest, _, digest = text.partition("@")
    if digest:
        Digest.parse(digest)
    head, slash, tail = rest.partition("/")
    namespace, path = OWN, rest
    if slash and ("." in head or ":" in head):
        namespace, path = head.lower(), tail
    name, colon, tag = path.partition(":")
    if namespace == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    return ImageName(Repository.parse(namespace, name), Tag.parse(tag) if colon else None)


def encode_index(images: Sequence[tuple[ImageName, Listed]], kept: Sequence[dict[str, Any]] = ()) -> bytes:
    """The exact bytes of `index.json`, the same whatever the order; entries that are `kept` come before.

    `ref.name` is the tag, as skopeo and containerd write and look for it; the whole name where images share a tag.
    """
    unique = sorted({(str(name), str(listed.digest)): (name, listed) for name, listed in images}.items())
    tags = Counter(name.tag.text for _, (name, _) in unique if name.tag)
    tags.update((entry.get("annotations") or {}).get(_REF_NAME, "") for entry in kept)
    entries = list(kept)
    for _, (name, listed) in unique:
        whole = str(name) if name.tag else f"{name}@{listed.digest}"
        annotations = {_IMAGE_NAME: whole}
        if name.tag:
            annotations[_REF_NAME] = name.tag.text if tags[name.tag.text] == 1 else whole
        entries.append(
            {
                "mediaType": listed.media_type,
                "digest": str(listed.digest),
                "size": listed.size,
                "annotations": annotations,
            }
        )
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def others(data: bytes, images: Sequence[ImageName]) -> list[dict[str, Any]]:
    """What an `index.json` lists besides these images, as it stands there.

    Raises:
        InvalidError: when it is none.
    """
    _decode(data, _Index, INDEX_FILE)
    names = {str(name) for name in images}
    entries: list[dict[str, Any]] = msgspec.json.decode(data)["manifests"]
    return [entry for entry in entries if (entry.get("annotations") or {}).get(_IMAGE_NAME) not in names]


def parse_index(data: bytes) -> tuple[Listed, ...]:
    """The images that `index.json` lists; what it lists besides is passed over.

    Raises:
        InvalidError: when it is none, or lists no image.
    """
    index = _decode(data, _Index, INDEX_FILE)
    if index.schema_version != 2 or len(index.manifests) > MOST_IMAGES:
        raise InvalidError(f"{INDEX_FILE}: schemaVersion 2 and at most {MOST_IMAGES} images are expected")
    found = [_listed(entry) for entry in index.manifests if entry.media_type in ("", *MANIFEST_TYPES)]
    if not found:
        raise InvalidError(f"{INDEX_FILE}: it lists no image")
    return tuple(found)


def check_layout(data: bytes) -> None:
    """Raises: InvalidError, when this is no `oci-layout` of a known version."""
    version = _decode(data, _Layout, LAYOUT_FILE).image_layout_version
    if not version.startswith("1."):
        raise InvalidError(f"{LAYOUT_FILE}: version {version[:20]!r} is not known, only 1")


def _listed(entry: _Entry) -> Listed:
    if not 0 <= entry.size <= MAX_MANIFEST_BYTES:
        raise InvalidError(f"{INDEX_FILE}: {entry.digest[:80]!r} has {entry.size} bytes: no manifest is so long")
    annotations = entry.annotations or {}
    ref, name = annotations.get(_REF_NAME, ""), annotations.get(_IMAGE_NAME, "")
    if not name and not _BARE_TAG.fullmatch(ref):
        name, ref = ref, ""
    if len(name) > _LONGEST_NAME or len(ref) > _LONGEST_NAME:
        raise InvalidError(f"{INDEX_FILE}: the name of {entry.digest[:80]!r} is too long")
    return Listed(entry.media_type, Digest.parse(entry.digest), entry.size, name, ref)


def _decode(data: bytes, kind: type[Any], file: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"{file}: {error}") from None
