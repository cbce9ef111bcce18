"""What a Kubo can be told to do, one method for each command; nothing here knows of a store."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol

from node.cid import Cid
from node.errors import FullError, InvalidError, LayermeshError, NotFoundError, UnreachableError
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.ipfs.kubo.rpc import ANSWER_S, CommandError, GaveUpError

_WHOLE_S: Final = 2.0
_REFUSED_S: Final = 0.5
PIN_STALL_S: Final = 10.0
_LIST_STALL_S: Final = 10.0
MOST_PINS: Final = 1_000_000


class Commands(Protocol):
    """Gives commands of `/api/v0` to one daemon."""

    async def ask(self, command: str, *arguments: str, within_s: float = ANSWER_S, **options: str) -> Any:
        """See `Rpc.ask`."""

    def lines(
        self, command: str, *arguments: str, stall_s: float = ANSWER_S, **options: str
    ) -> AsyncGenerator[Any, None]:
        """See `Rpc.lines`."""


class Daemon:
    """One daemon's commands. Every one raises `UnreachableError` when no Kubo answers; others are named."""

    def __init__(self, rpc: Commands) -> None:
        self._rpc = rpc

    async def version(self) -> str:
        """Its version, such as `0.43.0`."""
        return _text(await self._rpc.ask("version"), "Version")

    async def identity(self) -> SwarmPeer:
        """Its peer id, and where others reach it."""
        said = await self._rpc.ask("id")
        addresses = said.get("Addresses") if isinstance(said, dict) else None
        listed = addresses if isinstance(addresses, list) else []
        try:
            return SwarmPeer.parse(_text(said, "ID"), [each for each in listed if isinstance(each, str)])
        except InvalidError as error:
            raise UnreachableError(f"Kubo: {error}") from None

    async def setting(self, key: str) -> Any:
        """What its configuration says under a key."""
        said = await self._rpc.ask("config", key)
        return said.get("Value") if isinstance(said, dict) else None

    async def has_block(self, cid: Cid) -> bool:
        """Whether it has this very block, without asking anybody else."""
        try:
            await self._rpc.ask("block/stat", str(cid), offline="true")
        except NotFoundError:
            return False
        return True

    async def has_file(self, cid: Cid) -> bool:
        """Whether it has every block of a file, without asking anybody else; False when that takes long to find."""
        return await self.is_whole(cid, within_s=_WHOLE_S) is True

    async def is_whole(self, cid: Cid, *, within_s: float) -> bool | None:
        """As `has_file`; None where it does not say, or not in time."""
        try:
            said = await self._rpc.ask(
                "files/stat", f"/ipfs/{cid}", within_s=within_s, with_local="true", offline="true"
            )
        except GaveUpError:
            return None
        except NotFoundError:
            return False
        except LayermeshError:
            return None
        return said.get("Local") is True if isinstance(said, dict) else None

    async def try_command(self, command: str) -> None:
        """Give one of the commands that name a CID about a block that is nowhere: it changes and looks for nothing.

        Whatever the daemon says of that, it takes the command; what is refused, and that at once, it does not. Pins
        wait while it collects garbage.
        """
        nowhere = str(Cid.of(secrets.token_bytes(32)))
        asked = f"/ipfs/{nowhere}" if command == "files/stat" else nowhere
        with suppress(NotFoundError, FullError, CommandError, TimeoutError):
            async with asyncio.timeout(_REFUSED_S):
                await self._rpc.ask(command, asked, offline="true", type="recursive")  # else `pin/ls` walks all pins

    async def pinned(self, cid: Cid) -> str | None:
        """The name of a file's own pin, empty when it has none; None when it is not pinned for itself."""
        try:
            said = await self._rpc.ask("pin/ls", str(cid), type="recursive", names="true")
        except NotFoundError:
            return None
        keys = said.get("Keys") if isinstance(said, dict) else None
        pin = next(iter(keys.values()), None) if isinstance(keys, dict) else None
        return str(pin.get("Name") or "") if isinstance(pin, dict) else None

    async def pin(self, cid: Cid, name: str, stall_s: float = PIN_STALL_S) -> None:
        """Fetch a file whole, and pin it. A pin that it has gets this name, whoever made it: look before.

        Raises:
            NotFoundError: when nothing of it comes for `stall_s`.
            FullError: when the daemon's disk is full.
        """
        try:
            whole = await self._fetched(cid, name, stall_s)
        except TimeoutError:
            raise NotFoundError(f"{cid}: nobody in the swarm gives it") from None
        if not whole:
            await self._pin_untold(cid, name)

    async def _fetched(self, cid: Cid, name: str, stall_s: float) -> bool:
        """Follow what a pin tells of its progress; whether it came to its end, which only its last line says."""
        loop, count = asyncio.get_running_loop(), -1
        async with asyncio.timeout(stall_s) as limit:
            lines = self._rpc.lines("pin/add", str(cid), stall_s=2 * stall_s, name=name, progress="true")
            async with aclosing(lines):
                async for said in lines:
                    if not isinstance(said, dict):
                        break
                    if said.get("Pins"):
                        return True
                    if said.get("Progress", 0) != count:
                        count = said.get("Progress", 0)
                        limit.reschedule(loop.time() + stall_s)
        return False

    async def _pin_untold(self, cid: Cid, name: str) -> None:
        """Pin once more what ended without a word: where progress is told, why it failed stands in a trailer alone."""
        try:
            said = await self._rpc.ask("pin/add", str(cid), name=name)
        except CommandError as error:
            raise NotFoundError(f"{cid}: the swarm did not give all of it: {error}") from None
        except UnreachableError:
            said = None
        if not (isinstance(said, dict) and said.get("Pins")):
            raise NotFoundError(f"{cid}: the swarm did not give all of it")

    async def unpin(self, cid: Cid) -> None:
        """End a pin, whoever made it: look before. One that is not there is no error."""
        try:
            await self._rpc.ask("pin/rm", str(cid), within_s=10.0)
        except NotFoundError:
            return

    async def pins(self, named: str) -> AsyncGenerator[tuple[Cid, str], None]:
        """Every pin whose name holds `named`, with its name; such as this node knows no CIDs for are left out.

        Raises:
            UnreachableError: also when there are more than a million.
        """
        count = 0
        lines = self._rpc.lines("pin/ls", stall_s=_LIST_STALL_S, type="recursive", stream="true", name=named)
        async with aclosing(lines):
            async for said in lines:
                count += 1
                if count > MOST_PINS:
                    raise UnreachableError(f"Kubo lists more than {MOST_PINS} pins")
                try:
                    yield Cid.parse(said["Cid"]), str(said.get("Name") or "")
                except (InvalidError, KeyError, TypeError, AttributeError):
                    continue

    async def peered(self) -> set[str]:
        """The peer ids that it keeps connections to."""
        said = await self._rpc.ask("swarm/peering/ls")
        peers = said.get("Peers") if isinstance(said, dict) else None
        listed = peers if isinstance(peers, list) else []
        return {str(each.get("ID")) for each in listed if isinstance(each, dict)}

    async def peer_with(self, peer: SwarmPeer) -> None:
        """Keep a connection to another daemon, for as long as this one runs; at these addresses, and no others."""
        await self._rpc.ask("swarm/peering/add", *(f"{address}/p2p/{peer.peer_id}" for address in peer.addresses))

    async def part_from(self, peer_id: str) -> None:
        """Keep that connection no longer."""
        await self._rpc.ask("swarm/peering/rm", peer_id)


def _text(said: Any, name: str) -> str:
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, str) or not value or len(value) > 128 or not value.isprintable():
        raise UnreachableError(f"what answers as Kubo does not say its {name}")
    return value
