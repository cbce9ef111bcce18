"""What people ask `where` for: an image or a blob, as text."""

import re
from typing import Final

from node.digest import Digest
from node.errors import InvalidError
from node.reference import Reference

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
