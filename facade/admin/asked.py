"""What people ask `where` for: an image or a blob, as text."""

import re
from dataclasses import replace
from typing import Final

from facade.hosts import is_loopback
from facade.settings import Address
from node.digest import Digest
from node.errors import InvalidError
from node.layout import ImageName, parse_image_name
from node.reference import OWN, Reference, Repository

_CID: Final = re.compile("b[a-z2-7]{58}|Qm[1-9A-HJ-NP-Za-km-z]{44}")
"""A CIDv1 in base32 and a CIDv0, both sha2-256."""


def parse_asked(text: str) -> Digest | Reference:
    """A blob's digest, or an image as Docker writes it.

    Raises:
        InvalidError: when it is neither.
    """
    if text.startswith(("sha256:", "sha512:")):
        return Digest.parse(text)
    if _CID.fullmatch(text):
        raise InvalidError(f"{text}: a CID is no reference; an image reference or a digest (sha256:...) is expected")
    return Reference.parse(text)


def parse_named(text: str, facade: Address) -> Digest | Reference:
    """What is asked for, also as people write it for a pull, with this node's facade in front.

    A name behind the facade's address that begins with no registry is one of the cluster's own repositories.

    Raises:
        InvalidError: when it is neither a digest nor an image.
    """
    rest = _behind(facade, text)
    if rest is None:
        return parse_asked(text)
    first, slash, _ = rest.partition("/")
    if slash and "." in first:
        return parse_asked(rest)
    asked = Reference.parse(f"own.invalid/{rest}")
    return replace(asked, repository=Repository(OWN, asked.repository.name))


def parse_brought(text: str, facade: Address) -> ImageName:
    """How an image is to be known that a layout brings; this node's facade may stand in front, as in a pull.

    Raises:
        InvalidError: when it is no name.
    """
    rest = _behind(facade, text)
    return parse_image_name(text if rest is None else rest)


def _behind(facade: Address, text: str) -> str | None:
    """What stands behind this node's facade in a name; None when something else is in front."""
    head, slash, rest = text.partition("/")
    host, _, port = head.rpartition(":")
    is_facade = slash and port == str(facade.port) and (host == facade.host or is_loopback(host))
    return rest if is_facade else None
