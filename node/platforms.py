"""Platforms of images (OCI image specification 1.1, image-index.md): the one manifest of an index for one of them."""

from dataclasses import dataclass
from typing import Self

import msgspec

from node.digest import Digest
from node.errors import InvalidError, NotFoundError


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system, an architecture, and its variant where it matters (`linux/arm64`, `linux/arm/v7`)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `OS/ARCH[/VARIANT]`.

        Raises:
            InvalidError: when it is none.
        """
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise InvalidError(f"platform {text[:80]!r}: OS/ARCH[/VARIANT] is expected, such as linux/arm64")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def takes(self, other: "Platform") -> bool:
        """Whether an image for `other` is one for this: of any variant where none is asked for."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        return same and self.variant in ("", other.variant)


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Child(msgspec.Struct, rename="camel"):
    digest: str
    media_type: str = ""
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[_Child]


def choose(index: bytes, platform: Platform) -> tuple[Digest, str]:
    """The first manifest of an index for a platform, and its media type.

    Raises:
        NotFoundError: when there is none; the message names those that there are.
        InvalidError: when this is no index.
    """
    try:
        children = msgspec.json.decode(index, type=_Index).manifests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"index: {error}") from None
    known = [(_named(child.platform), child) for child in children if child.platform is not None]
    for each, child in known:
        if platform.takes(each):
            return Digest.parse(child.digest), child.media_type
    there = ", ".join(sorted({str(each) for each, _ in known if each.os != "unknown"})) or "none"
    raise NotFoundError(f"platform {platform}: the image has none for it; there are {there}")


def _named(platform: _Platform) -> Platform:
    return Platform(platform.os, platform.architecture, platform.variant)
