"""What images a layout brings, and by which names: read and checked before anything of it goes anywhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from facade.images.contracts import Layout
from facade.images.taking import walk
from node.digest import Digest
from node.errors import InvalidError, MismatchError
from node.layout import INDEX_FILE, LAYOUT_FILE, Listed, check_layout, parse_image_name, parse_index
from node.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from node.platforms import Platform, choose

_LONGEST_LAYOUT: Final = 4096
_DEEPEST: Final = 4


@dataclass(frozen=True, slots=True)
class Brought:
    """An image of a layout: its name, its manifest, and the sizes of all its blobs, manifests included."""

    name: str
    root: Listed
    sizes: dict[Digest, int]


def brought_images(layout: Layout, name: str | None = None, platform: Platform | None = None) -> list[Brought]:
    """The images of a layout, all of whose blobs are in it.

    `name` is for the only one, or, without a tag, the repository of all. Of images for several platforms, the one for
    `platform` is taken.

    Raises:
        InvalidError: when it is no layout, an image is not whole, or nobody says what it is called.
        MismatchError: when what was read hashes to something else.
        NotFoundError: when an image has no manifest for `platform`.
    """
    check_layout(layout.small((LAYOUT_FILE,), _LONGEST_LAYOUT))
    listed = parse_index(layout.small((INDEX_FILE,), MAX_MANIFEST_BYTES))
    named = list(dict.fromkeys(zip(_names(listed, name), listed, strict=True)))
    if twice := [text for text, count in Counter(text for text, _ in named).items() if count > 1]:
        raise InvalidError(f"{twice[0]}: the layout has two images that would be called so")
    return [_image(layout, text, each, platform) for text, each in named]


def _image(layout: Layout, name: str, listed: Listed, platform: Platform | None) -> Brought:
    def child(digest: Digest, media_type: str, size: int) -> Manifest:
        return _manifest(layout, digest, media_type, size)

    root = child(listed.digest, listed.media_type, listed.size)
    for _ in range(_DEEPEST):
        if platform is None or not root.is_index:
            break
        digest, media_type = choose(root.data, platform)
        root = child(digest, media_type, next(each.size for each in root.names if each.digest == digest))
    image = walk(name, root, child)
    for digest in image.sizes:
        if not layout.has(digest):
            raise InvalidError(f"{digest}: {name} needs it, but it is not there")
    return Brought(name, image.root, image.sizes)


def _manifest(layout: Layout, digest: Digest, media_type: str, size: int) -> Manifest:
    if size > MAX_MANIFEST_BYTES:
        raise InvalidError(f"{digest}: {size} bytes: manifests have at most {MAX_MANIFEST_BYTES}")
    if not layout.has(digest):
        raise InvalidError(f"{digest}: a manifest that is not there; for one platform of several, say --platform")
    data = b"".join(layout.blob(digest, size))
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise MismatchError(f"{digest}: its bytes hash to something else")
    return parse_manifest(data, media_type, digest)


def _names(listed: Sequence[Listed], name: str | None) -> list[str]:
    """What each image is called.

    Raises:
        InvalidError: when somebody has to say that.
    """
    if name is None:
        if nameless := [each for each in listed if not each.name]:
            known = f"the tag {nameless[0].tag!r}" if nameless[0].tag else "no name"
            raise InvalidError(f"{nameless[0].digest}: the layout gives this image {known}: name it with --as REF")
        return [each.name for each in listed]
    if "@" in name:
        raise InvalidError(f"--as {name}: a name with or without a tag is expected, no digest")
    _, colon, _ = name.rpartition("/")[2].partition(":")
    if not colon:
        return [f"{name}:{_tag(each)}" for each in listed]
    if len(listed) > 1:
        raise InvalidError(
            f"--as {name}: there are {len(listed)} images; with a repository alone, they keep their tags"
        )
    return [name]


def _tag(listed: Listed) -> str:
    """The tag that a layout gives an image; `latest` where it gives none."""
    if listed.tag or not listed.name:
        return listed.tag or "latest"
    tag = parse_image_name(listed.name).tag
    return tag.text if tag else "latest"
