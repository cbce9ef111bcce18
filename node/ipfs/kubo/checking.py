"""Whether a daemon is one that can be used: tried before it is, and again whenever it was away."""

import os
import re
from io import FileIO
from typing import Final, Protocol

from yarl import URL

from node.cid import Cid
from node.errors import InvalidError
from node.ipfs.kubo.adding import CHUNKER
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.multiaddrs import gateway_url
from node.sending import HasFileno
from node.unixfs import LEAF_BYTES, MAX_LINKS

OLDEST: Final = (0, 40)
_COMMANDS: Final = ("block/stat", "files/stat", "pin/ls", "pin/add", "pin/rm")
"""What is asked while blobs are pulled and published; the others are given whenever a daemon is looked at."""
_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[.+-][0-9A-Za-z.+-]*)?")
_VECTORS: Final = (
    (LEAF_BYTES + 1, CHUNKER, "bafybeihd4yzq7n5umhjngdum4r6k2to7egxfkf2jz6thvwzf6djus22cmq"),
    ((MAX_LINKS + 1) * 16, "size-16", "bafybeih5nynfgaqbhdalgihpfetac5c2qlqymq6vljr4wsuc6kd4rpo2zu"),
)
"""So many zeros, how they are cut, and their CID.

Two leaves of the profile show how it cuts and names them; one leaf more than a node may have links, how it links them.
"""


class Upload(Protocol):
    """Adds a file of some size, pinned under a name, or not kept at all where that is None."""

    async def __call__(self, file: HasFileno, size: int, pin_name: str | None, chunker: str = CHUNKER) -> Cid:
        """See `adding.add`."""


def check_version(text: str) -> str:
    """The version, when it is one that can be used.

    Raises:
        InvalidError: when it is older than 0.40, or no version.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InvalidError(f"Kubo says that its version is {text[:40]!r}: at least {OLDEST[0]}.{OLDEST[1]} is needed")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise InvalidError(f"Kubo {text[:40]} is too old: at least {OLDEST[0]}.{OLDEST[1]} is needed")
    return text


async def check_profile(upload: Upload) -> None:
    """Try, without anything being kept, whether the daemon gives known files the CIDs that they have everywhere.

    It is sent 1 MiB; a blob that only differs where these do not would be uploaded before it is refused.

    Raises:
        InvalidError: when it gives one of them another one.
        FullError, UnreachableError: as `add`.
    """
    for size, chunker, known in _VECTORS:
        with FileIO(os.memfd_create("vector"), "wb") as file:
            file.truncate(size)
            cid = await upload(file, size, None, chunker)
        if cid != Cid.parse(known):
            raise InvalidError(
                f"Kubo makes other CIDs than this node ({cid} in the place of {known}): it does not follow what `add`"
                " is told of the profile unixfs-v1-2025"
            )


async def check_commands(daemon: Daemon) -> None:
    """Try whether it takes the commands that a node will give: a login may be good for some of them alone.

    Raises:
        UnreachableError: when it refuses one.
    """
    for command in _COMMANDS:
        await daemon.try_command(command)


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
