"""The facade's own users, from a file as `htpasswd -B` writes it: a name and a bcrypt hash on each line. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import bcrypt

from facade.registry.access import ANONYMOUS, ANY_USER
from node.errors import InvalidError

_HASH: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")
_MOST_BYTES: Final = 72
"""bcrypt looks no further into a password."""
_NOBODY: Final = b"$2b$10$" + b"." * 53


@dataclass(frozen=True, slots=True)
class Users:
    """Names and hashes of passwords, which are never shown."""

    hashes: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def knows(self, name: str, password: str) -> bool:
        """Whether it is this user's password; takes tens of milliseconds of a processor, by bcrypt's design.

        A name that is not here costs what some name that is here costs, the same one each time.
        """
        stored = self.hashes.get(name)
        same = bcrypt.checkpw(password.encode()[:_MOST_BYTES], stored or self._other(name))
        return same and stored is not None

    def _other(self, name: str) -> bytes:
        others = tuple(self.hashes.values()) or (_NOBODY,)
        return others[hash(name) % len(others)]


def parse_htpasswd(data: bytes) -> Users:
    """What the bytes of a file hold; empty lines and those that begin with `#` do not count.

    Raises:
        InvalidError: naming the first line that is malformed, never a hash.
    """
    hashes: dict[str, bytes] = {}
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise InvalidError("it is not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            name, _, stored = line.strip().partition(":")
            if why := _wrong(name, stored, hashes):
                raise InvalidError(f"line {number}: {why}")
            hashes[name] = stored.encode()
    return Users(hashes)


def _wrong(name: str, stored: str, before: Mapping[str, bytes]) -> str | None:
    if not name or not stored or not name.isprintable():
        return "NAME:HASH is expected, as `htpasswd -B` writes it"
    if name in (ANONYMOUS, ANY_USER):
        return f"{name!r} is no name for a user: it has a meaning of its own in rules"
    if name in before:
        return f"{name[:80]!r} stands on an earlier line already"
    if not _HASH.fullmatch(stored):
        return "a bcrypt hash of cost 4 to 15 is expected, as `htpasswd -B` writes it"
    return None
