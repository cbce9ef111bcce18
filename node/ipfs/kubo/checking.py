"""Whether a daemon is one that can be used: tried before it is, and again whenever it was away."""

import os
import re
from collections.abc import Awaitable, Callable
from io import FileIO
from typing import Final, TypeAlias

from yarl import URL

from node.cid import Cid
from node.errors import InvalidError
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.multiaddrs import gateway_url
from node.sending import HasFileno
from node.unixfs import LEAF_BYTES

Upload: TypeAlias = Callable[[HasFileno, int, str | None], Awaitable[Cid]]
"""Adds a file of some size, pinned under a name, or not kept at all where that is None."""
OLDEST: Final = (0, 40)
_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:\.[0-9A-Za-z.+-]*)?")
_VECTOR_BYTES: Final = LEAF_BYTES + 1
"""All of them zero."""
_VECTOR_CID: Final = "bafybeihd4yzq7n5umhjngdum4r6k2to7egxfkf2jz6thvwzf6djus22cmq"


def check_version(text: str) -> str:
    """The version, when it is one that can be used.

    Raises:
        InvalidError: when it is older than 0.40, or no version.
    """
    found = _VERSION.fullmatch(text)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise InvalidError(f"Kubo {text[:40]} is too old: at least {OLDEST[0]}.{OLDEST[1]} is needed")
    return text


async def check_profile(upload: Upload) -> None:
    """Try, without anything being kept, whether the daemon gives a file of two leaves the CID that it has everywhere.

    Raises:
        InvalidError: when it gives it another one.
        FullError, UnreachableError: as `add`.
    """
    with FileIO(os.memfd_create("vector"), "wb") as file:
        file.truncate(_VECTOR_BYTES)
        cid = await upload(file, _VECTOR_BYTES, None)
    if cid != Cid.parse(_VECTOR_CID):
        raise InvalidError(
            f"Kubo makes other CIDs than this node ({cid} in the place of {_VECTOR_CID}): it does not follow what `add`"
            " is told of the profile unixfs-v1-2025"
        )


async def check_gateway(daemon: Daemon, endpoint: Endpoint) -> URL:
    """Where its gateway is: as the operator said, or else the daemon itself.

    Raises:
        InvalidError: when there is none that this machine reaches.
        UnreachableError: when the daemon does not say.
    """
    if endpoint.gateway is not None:
        return endpoint.gateway
    try:
        return gateway_url(await daemon.setting("Addresses.Gateway"), endpoint.host)
    except InvalidError as error:
        raise InvalidError(f"Kubo: {error}; name it with ipfs_gateway") from None
