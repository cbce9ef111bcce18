"""Name lookup: for hosts that an operator named, and for hosts that only a redirect named."""

import errno
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from facade.upstream.addresses import is_local_address


class Recording(AbstractResolver):
    """Looks names up and remembers which have a private address."""

    def __init__(self) -> None:
        self._inner: AbstractResolver | None = None
        self._local: dict[str, bool] = {}

    def is_local(self, host: str) -> bool:
        """Whether the host had a private address when last looked up; False when it never was."""
        return self._local.get(host, False)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver`."""
        self._inner = self._inner or ThreadedResolver()
        found = await self._inner.resolve(host, port, family)
        self._local[host] = any(is_local_address(each["host"]) for each in found)
        return found

    async def close(self) -> None:
        """Nothing is held."""


class ScreenedError(OSError):
    """A name has private addresses only, while the registry that named it is public."""


class Screening(AbstractResolver):
    """Looks names up and leaves private addresses out: a public registry must not send us into our own network."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver`."""
        found = await ThreadedResolver().resolve(host, port, family)
        usable = [each for each in found if not is_local_address(each["host"])]
        if not usable:
            words = f"{host} has private addresses only, while the registry that named it is public"
            raise ScreenedError(errno.EHOSTUNREACH, words)
        return usable

    async def close(self) -> None:
        """Nothing is held."""
