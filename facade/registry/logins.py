"""Logins by HTTP Basic (RFC 7617): checked in threads and remembered, as bcrypt is slow by design."""

import asyncio
import base64
import binascii
import hmac
import os
import secrets
import time
from collections.abc import Callable
from typing import Final, Protocol

from facade.registry.access import ANONYMOUS
from facade.registry.newest import remember
from node.errors import DeniedError, ThrottledError

REMEMBERED_S: Final = 300.0
REFUSED_S: Final = 10.0
"""How long a wrong login is refused without a look: clients that try again and again cost nothing."""
_LONGEST: Final = 4096
EMPTY: Final = "Basic Og=="
"""What Podman and skopeo send when they have no login and were asked for one."""


class Passwords(Protocol):
    """Those who may log in."""

    def knows(self, name: str, password: str) -> bool:
        """Whether it is this user's password; may take long, and is called in threads."""


class Logins:
    """Says who sent a request. Passwords are kept nowhere: headers are remembered by a keyed hash."""

    def __init__(
        self,
        users: Passwords,
        clock: Callable[[], float] = time.monotonic,
        *,
        at_once: int = max(1, (os.cpu_count() or 1) // 2),
        wait_s: float = 5.0,
    ) -> None:
        """At most `at_once` logins are checked at a time; who would wait for longer than `wait_s` is sent away."""
        self._users = users
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, tuple[str, float]] = {}
        self._wrong: dict[bytes, float] = {}
        self._turns = asyncio.Semaphore(at_once)
        self._wait_s = wait_s

    def replace(self, users: Passwords) -> None:
        """From now on these are the users; nothing that was remembered counts any more."""
        self._users = users
        self._right.clear()
        self._wrong.clear()

    async def who(self, header: str | None) -> str:
        """The user whose login an `Authorization` header holds; `anonymous` without one.

        Raises:
            DeniedError: when it is no login, or a wrong one.
            ThrottledError: when so many new ones are being checked that this one would wait too long.
        """
        if header is None or header == EMPTY:
            return ANONYMOUS
        digest = hmac.digest(self._key, header.encode(errors="surrogateescape"), "sha256")
        return self._remembered(digest) or await self._checked(digest, header)

    def _remembered(self, digest: bytes) -> str | None:
        now = self._clock()
        name, until = self._right.get(digest, ("", 0.0))
        if name and now < until:
            return name
        if now < self._wrong.get(digest, 0.0):
            raise DeniedError("the user name or password is wrong")
        return None

    async def _checked(self, digest: bytes, header: str) -> str:
        name, password = parse_basic(header)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise ThrottledError("too many logins at once; try again", 1.0) from None
        try:
            if known := self._remembered(digest):  # another request with the same login was first
                return known
            users = self._users
            right = await asyncio.to_thread(users.knows, name, password)
        finally:
            self._turns.release()
        if users is self._users:
            self._remember(digest, name, right)
        if not right:
            raise DeniedError("the user name or password is wrong")
        return name

    def _remember(self, digest: bytes, name: str, right: bool) -> None:
        if right:
            remember(self._right, digest, (name, self._clock() + REMEMBERED_S))
        else:
            remember(self._wrong, digest, self._clock() + REFUSED_S)


def parse_basic(header: str, longest: int = _LONGEST) -> tuple[str, str]:
    """User name and password of an `Authorization` header, which has at most so many characters.

    Raises:
        DeniedError: when it holds none.
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > longest:
        raise DeniedError("a login by HTTP Basic is expected")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        text = ""
    name, colon, password = text.partition(":")
    if not colon or not name or "\0" in text:
        raise DeniedError("a login by HTTP Basic is expected: the base64 of USER:PASSWORD")
    return name, password
