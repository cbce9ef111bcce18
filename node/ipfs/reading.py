"""Files read from IPFS gateways that nobody need trust: block by block, each verified, whoever made the file."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from yarl import URL

from node.car import Inline
from node.cid import Cid
from node.errors import LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.gateway import AT_HAND, GatewayClient
from node.ipfs.unixfs import open_by_blocks
from node.naming import Name
from node.traversal import Piece, inline

_BLOCK_S: Final = 4.0
"""A block that takes longer has stalled, however steadily it trickles."""


class GatewayReading:
    """`node.ipfs.contracts.Reading` on gateways. `having` tells which of them have a block at hand."""

    def __init__(
        self,
        client: GatewayClient,
        having: Callable[[Cid], Awaitable[Sequence[URL]]],
        failed: Callable[[URL, LayermeshError], None] = lambda _url, _error: None,
    ) -> None:
        self._client = client
        self._having = having
        self._failed = failed

    @asynccontextmanager
    async def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Implements `Reading.open`.

        Raises:
            UnsupportedError: on entry, when it is no file, or of a kind that is not read.
        """
        gateways = await self._having(cid)
        if not gateways:
            raise NotFoundError(f"{cid}: no gateway has it")
        async with open_by_blocks(_Remote(self._client, gateways, self._failed), Name(cid), start, stop) as chunks:
            yield chunks

    async def has(self, cid: Cid) -> bool:
        """Implements `Reading.has`."""
        return bool(await self._having(cid))


class _Remote:
    """The blocks that some gateways have, as `node.traversal.BlockSource`."""

    def __init__(
        self, client: GatewayClient, gateways: Sequence[URL], failed: Callable[[URL, LayermeshError], None]
    ) -> None:
        self._client = client
        self._gateways = list(gateways)
        self._failed = failed

    async def piece(self, name: Name) -> Piece:
        """From the first that gives it; one that does not is not asked again."""
        if isinstance(name.block, Inline):
            return inline(name.block)
        trouble: LayermeshError = NotFoundError(f"{name}: no gateway has it")
        while self._gateways:
            gateway = self._gateways[0]
            try:
                async with asyncio.timeout(_BLOCK_S):
                    data = await self._client.block(gateway, name.block, headers=AT_HAND)
            except TimeoutError:
                trouble = UnreachableError(f"{gateway}: a block took longer than {_BLOCK_S:g} s")
            except (NotFoundError, UnreachableError, MismatchError) as error:
                trouble = error
            else:
                return Piece(name, len(data), data)
            self._gateways.remove(gateway)
            if not isinstance(trouble, NotFoundError):
                self._failed(gateway, trouble)
        raise trouble

    async def blob(self, name: Name) -> None:
        """Gateways have blocks, and no files of this machine."""
