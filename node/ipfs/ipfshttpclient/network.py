"""The network on a daemon that is reached by ipfshttpclient. See the package for why it is not the default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from node.cid import Cid
from node.ipfs.ipfshttpclient.commands import Commands, open_commands
from node.ipfs.kubo.adding import CHUNKER
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import DEFAULT_TIMINGS, OnDaemon, Timings
from node.ipfs.unixfs import Given, open_by_blocks
from node.naming import Name
from node.sending import HasFileno
from node.store import Store


class IpfsHttpClient(OnDaemon):
    """A daemon whose files are read block by block, for what `cat` gives may be half of one. Needs no gateway."""

    def __init__(
        self, store: Store, commands: Commands, endpoint: Endpoint, timings: Timings = DEFAULT_TIMINGS
    ) -> None:
        super().__init__(store, commands, endpoint, timings)
        self._commands = commands

    @asynccontextmanager
    async def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a file's bytes, each of a block that was verified. Implements `Reading.open`."""
        limit_s = self._timings.stall_s if await self.daemon.has_block(cid) else self._timings.swarm_s
        source = Given(partial(self._commands.block, within_s=limit_s))
        async with open_by_blocks(source, Name(cid), start, stop) as pieces:
            yield pieces

    async def block(self, cid: Cid) -> bytes:
        """Implements `Blocks.block`."""
        limit_s = self._timings.stall_s if await self.daemon.has_block(cid) else self._timings.swarm_s
        return await self._commands.block(cid, limit_s)

    async def _upload(self, file: HasFileno, size: int, pin_name: str | None, chunker: str = CHUNKER) -> Cid:
        return await self._commands.upload(file, size, pin_name, chunker)

    async def _find_files(self, *, anew: bool) -> None:
        if anew:
            await self.daemon.try_command("block/get")


@asynccontextmanager
async def open_ipfshttpclient(
    store: Store, endpoint: Endpoint, timings: Timings = DEFAULT_TIMINGS
) -> AsyncIterator[IpfsHttpClient]:
    """The network of the daemon at `endpoint`, which need not be there."""
    async with open_commands(endpoint) as commands:
        yield IpfsHttpClient(store, commands, endpoint, timings)
