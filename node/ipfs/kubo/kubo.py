"""A Kubo daemon as an IPFS network: the blobs that anybody may have are pinned in it, and read through its gateway.

Kubo keeps one pin of its own kind for each file. So a file that somebody else pinned is left as it is, and pins made
here carry a name that says which node made them: only those are ever taken away.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import aiohttp
import structlog
from yarl import URL

from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import DeniedError, FullError, InvalidError, LayermeshError, MismatchError, NotFoundError
from node.ipfs.contracts import Health, Opened, Pin
from node.ipfs.gateway import GatewayClient
from node.ipfs.kubo.adding import CHUNKER, add
from node.ipfs.kubo.checking import check_commands, check_gateway, check_profile, check_version
from node.ipfs.kubo.daemon import PIN_STALL_S, Commands, Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.files import open_file
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.ipfs.kubo.notes import Notes, Topic
from node.ipfs.kubo.rpc import Rpc, one_line, open_session
from node.sending import HasFileno
from node.store import Store
from node.visibility import Visibility
from node.workers import Pulse

_log: Final = structlog.get_logger(__name__)
_BY_HAND: Final = "by hand"
_EXAMINE_S: Final = 10.0
_MOST_DOUBTED: Final = 16


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a Kubo may take for what, in seconds."""

    look_every_s: float = 5.0
    look_again_s: float = 2.0
    """How soon a daemon that could not be used is looked at again."""
    look_s: float = 5.0
    """How long looking may take."""
    here_s: float = 0.1
    """How long it may take to say whether it has a block; a pull waits for it."""
    swarm_s: float = 10.0
    """How long a file that is read may be looked for in the swarm."""
    stall_s: float = 2.0
    """A body without a byte for so long has stalled."""
    pin_stall_s: float = PIN_STALL_S


DEFAULT_TIMINGS: Final = Timings()


class OnDaemon(ABC):
    """`Network` on a daemon, however it is reached. `run` it beside, so that it is known how the daemon is."""

    def __init__(self, store: Store, rpc: Commands, endpoint: Endpoint, timings: Timings) -> None:
        self.known = Health("Kubo has not been looked at yet")
        """How it was when it was looked at last."""
        self.peer: SwarmPeer | None = None
        """Who it is in the swarm, once it answered."""
        self.moved = Pulse()
        """Beats when it can be used, or no longer, or is another one."""
        self.daemon = Daemon(rpc)
        self.endpoint = endpoint
        self._store = store
        self._timings = timings
        self._names = f"layermesh/{store.node_id}/"
        self._version = ""
        self._notes = Notes()
        self._kept_waiting = False
        self._doubted: asyncio.Queue[Cid] = asyncio.Queue(_MOST_DOUBTED)

    @property
    def usable(self) -> bool:
        """Whether it could be used when it was looked at last."""
        return self.known.trouble is None

    @property
    def is_prompt(self) -> bool:
        """Whether a pull may wait for it that could go elsewhere: it kept none waiting since it was looked at last."""
        return self.usable and not self._kept_waiting

    async def run(self) -> None:
        """Look at the daemon now and then, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._examine(), name="examine what kubo gave")
            while True:
                await self.health()
                await asyncio.sleep(self._timings.look_every_s if self.usable else self._timings.look_again_s)

    async def health(self) -> Health:
        """Look how the daemon is. Implements `Publishing.health`."""
        try:
            async with asyncio.timeout(self._timings.look_s):
                await self._look()
        except TimeoutError:
            self.failed(f"Kubo at {self.endpoint} gives no answer: is it frozen?")
        except LayermeshError as error:
            self.failed(str(error))
        except Exception as error:  # whatever a daemon says, it is looked at again
            self._failed_itself("looking at kubo failed", error)
        self._kept_waiting = False
        return self.known

    def failed(self, why: str) -> None:
        """It cannot be used now: it is looked at anew before it is."""
        self._learn(Health(why))

    def doubt(self, cid: Cid) -> None:
        """A file that it had did not come whole: it is looked whether a part of it is gone, which nobody waits for."""
        with suppress(asyncio.QueueFull):
            self._doubted.put_nowait(cid)

    def gave_wrong(self, cid: Cid, why: str) -> None:
        """It gave bytes of a file, or of a block, that are not those that the CID names."""
        words = f"Kubo gave wrong bytes for {cid}: `ipfs repo verify` tells which blocks are damaged"
        self._note(Topic.WRONG, f"{words} ({one_line(why.encode())})")

    def was_slow(self, cid: Cid) -> None:
        """It gave a file that it has so slowly that it was left for another."""
        self._note(Topic.SLOW, f"Kubo gave {cid} too slowly: for a minute others are asked before it")

    @property
    def read_at(self) -> URL | None:
        """The gateway that its files are read from, where that is known."""
        return None

    @abstractmethod
    def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> Opened:
        """Implements `Reading.open`; what the daemon has not is looked for in the swarm."""

    @abstractmethod
    async def block(self, cid: Cid) -> bytes:
        """Implements `Blocks.block`; what the daemon has not is looked for in the swarm."""

    async def has(self, cid: Cid) -> bool:
        """Implements `Reading.has`: of a file that is not pinned, every block is looked for."""
        if await self.daemon.pinned(cid) is not None:
            return True
        if not await self.daemon.has_block(cid):
            return False
        return cid.codec is Codec.RAW or await self.daemon.has_file(cid)

    async def here(self, cid: Cid) -> bool:
        """Whether it has a file's root, asked so that a pull may wait for it; False as well where it does not say.

        One that is silent may only be busy: no pull asks it until it is looked at, and that tells whether it is frozen.
        """
        if not self.is_prompt:
            return False
        try:
            async with asyncio.timeout(self._timings.here_s):
                return await self.daemon.has_block(cid)
        except TimeoutError:
            self._kept_waiting = True
        except LayermeshError as error:
            self.failed(str(error))
        return False

    async def add(self, digest: Digest) -> Cid:
        """Pin a blob of the store in it. Implements `Publishing.add`; only what anybody may have enters a Kubo."""
        holding = await self._store.find(digest)
        if holding is None:
            raise NotFoundError(f"{digest}: not here")
        if holding.visibility is not Visibility.PUBLIC:
            raise DeniedError(f"{digest}: only what anybody may have is given to Kubo")
        if await self.daemon.pinned(holding.cid) is not None:
            return holding.cid
        async with self._store.read(digest) as blob:
            try:
                cid = await self._upload(blob, blob.size, self._name(digest))
            except FullError as error:
                self._note(Topic.FULL, str(error))
                raise
        self._notes.end(Topic.FULL)  # a pin may have had nothing to write; this was written
        self._show_notes()
        if cid != holding.cid:
            await self._remove(cid, lambda name: name == self._name(digest))
            raise MismatchError(f"{digest}: Kubo added it as {cid}, which is {holding.cid}")
        return cid

    async def withdraw(self, cid: Cid) -> None:
        """Implements `Publishing.withdraw`: what this node published is unpinned, and nothing else."""
        await self._remove(cid, lambda name: self._digest(name) is not None)

    async def pin(self, cid: Cid) -> None:
        """Implements `Pinning.pin`: what others pinned is theirs to keep.

        Raises:
            DeniedError: when it is here, and not for anybody: the swarm would hear of it.
        """
        with suppress(NotFoundError):
            if (await self._store.block(cid)).visibility is not Visibility.PUBLIC:
                raise DeniedError(f"{cid}: only what anybody may have is given to Kubo, or asked for there")
        await self._pin(cid, _BY_HAND)

    async def fetch(self, cid: Cid, digest: Digest) -> None:
        """Have the daemon fetch a blob whole from the swarm, pinned as if it had been added here.

        Raises:
            NotFoundError, FullError, UnreachableError: as `pin`.
        """
        await self._pin(cid, str(digest))

    async def unpin(self, cid: Cid) -> None:
        """Implements `Pinning.unpin`."""
        await self._remove(cid, lambda name: name.startswith(self._names))

    async def pins(self) -> AsyncGenerator[Pin, None]:
        """Implements `Pinning.pins`, by the names that pins of this node have."""
        async with aclosing(self.daemon.pins(self._names)) as found:
            async for cid, name in found:
                if name.startswith(self._names):
                    yield Pin(cid, self._digest(name))

    @abstractmethod
    async def _upload(self, file: HasFileno, size: int, pin_name: str | None, chunker: str = CHUNKER) -> Cid:
        """Add a file with every option of `PROFILE`; see `adding.add`."""

    @abstractmethod
    async def _find_files(self, *, anew: bool) -> None:
        """Make sure that files can be read; `anew` of a daemon that was away, or is another one.

        Raises:
            InvalidError, UnreachableError: when they cannot.
        """

    async def _look(self) -> None:
        peer = await self.daemon.identity()
        anew = not self.usable or self.known.identity != peer.peer_id
        if anew:
            self._version = check_version(await self.daemon.version())
            await check_commands(self.daemon)
            await check_profile(self._upload)
        await self._find_files(anew=anew)
        self.peer = peer
        self._learn(Health(None, self._version, peer.peer_id, self._notes.known))

    def _learn(self, known: Health) -> None:
        before, self.known = self.known, known
        if (before.trouble, before.identity) == (known.trouble, known.identity):
            return
        if known.trouble is None:
            _log.info("kubo can be used", version=known.version, peer=known.identity, at=str(self.endpoint))
        elif before.trouble != known.trouble:
            _log.warning("kubo cannot be used", why=known.trouble)
        self.moved.beat()

    async def _examine(self) -> None:
        """Look whether what is doubted is whole; where that is not to be learnt, nothing is said of it.

        At once, for a blob that is fetched elsewhere is published again, and then nobody learns of it any more.
        """
        while True:
            cid = await self._doubted.get()
            try:
                is_whole = await self.daemon.is_whole(cid, within_s=_EXAMINE_S)
            except Exception as error:
                self._failed_itself("examining what kubo gave failed", error)
                continue
            if is_whole is False:
                _log.warning("kubo lacks a part of a file", cid=str(cid))
                words = (
                    "it was collected, or never came, or the datastore lost it (`ipfs pin verify` tells of broken pins)"
                )
                self._note(Topic.LACKS, f"Kubo lacks a part of {cid}: {words}")

    def _failed_itself(self, what: str, error: Exception) -> None:
        words = f"this node failed: {type(error).__name__}"
        if words != self.known.trouble:
            _log.error(what, exc_info=error)
        self.failed(words)

    def _note(self, topic: Topic, words: str) -> None:
        self._notes.tell(topic, words)
        self._show_notes()

    def _show_notes(self) -> None:
        if self.usable:
            self.known = replace(self.known, notes=self._notes.known)

    async def _pin(self, cid: Cid, what: str) -> None:
        name = self._names + what
        before = await self.daemon.pinned(cid)
        if before is not None and (before == name or not before.startswith(self._names) or what != _BY_HAND):
            return
        try:
            await self.daemon.pin(cid, name, self._timings.pin_stall_s)
        except FullError as error:
            self._note(Topic.FULL, self._notes.of(Topic.FULL) or str(error))
            raise

    async def _remove(self, cid: Cid, ours: Callable[[str], bool]) -> None:
        name = await self.daemon.pinned(cid)
        if name is not None and ours(name):
            await self.daemon.unpin(cid)

    def _name(self, digest: Digest) -> str:
        return f"{self._names}{digest}"

    def _digest(self, name: str) -> Digest | None:
        """The blob that a pin of this node offers; None for all others."""
        try:
            return Digest.parse(name.removeprefix(self._names)) if name.startswith(self._names) else None
        except InvalidError:
            return None


class Kubo(OnDaemon):
    """A daemon whose files and blocks are read from its gateway. Made by `open_kubo`."""

    def __init__(
        self, store: Store, rpc: Rpc, uploads: Rpc, session: aiohttp.ClientSession, timings: Timings = DEFAULT_TIMINGS
    ) -> None:
        """`uploads` has a connection for each request; `session` reads from the gateway."""
        super().__init__(store, rpc, rpc.endpoint, timings)
        self.reading = GatewayClient(session, answer_s=1.5, own=True)
        """Reads blocks and parts of files from its gateway."""
        self._waiting = GatewayClient(session, answer_s=timings.swarm_s + 1, own=True)
        self._uploads = uploads
        self._session = session
        self._gateway: URL | None = None

    @property
    def read_at(self) -> URL | None:
        """The gateway that its files are read from, where that is known."""
        return self._gateway if self.usable else None

    @property
    def gateway(self) -> URL:
        """Where its files are read.

        Raises:
            NotFoundError: while that is not known.
        """
        if self._gateway is None:
            raise NotFoundError(f"{self.known.trouble}")
        return self._gateway

    @asynccontextmanager
    async def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a file's bytes, as the gateway gives them. Implements `Reading.open`; what it has not is looked for."""
        limit_s = self._timings.stall_s if await self.daemon.has_block(cid) else self._timings.swarm_s
        async with open_file(
            self._session, self.gateway, cid, start, stop, head_s=limit_s, stall_s=self._timings.stall_s
        ) as pieces:
            yield pieces

    async def block(self, cid: Cid) -> bytes:
        """Implements `Blocks.block`."""
        limit_s = self._timings.stall_s if await self.daemon.has_block(cid) else self._timings.swarm_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._waiting.block(self.gateway, cid, stall_s=self._timings.stall_s)
        except TimeoutError:
            raise NotFoundError(f"{cid}: nobody in the swarm gives it") from None

    async def _upload(self, file: HasFileno, size: int, pin_name: str | None, chunker: str = CHUNKER) -> Cid:
        return await add(self._uploads, file, size, pin_name=pin_name, chunker=chunker)

    async def _find_files(self, *, anew: bool) -> None:
        if anew or self._gateway is None:
            self._gateway = None
            self._gateway = await check_gateway(self.daemon, self.endpoint)
        if not await self.reading.probe(self._gateway):
            raise InvalidError(f"Kubo's gateway at {self._gateway} gives no answer as one: see Addresses.Gateway")


@asynccontextmanager
async def open_kubo(store: Store, endpoint: Endpoint, timings: Timings = DEFAULT_TIMINGS) -> AsyncIterator[Kubo]:
    """The network of the daemon at `endpoint`, which need not be there."""
    async with (
        open_session(endpoint) as asking,
        open_session(endpoint, pooled=False) as uploading,
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=256 * 1024, trust_env=False
        ) as reading,
    ):
        yield Kubo(store, Rpc(endpoint, asking), Rpc(endpoint, uploading), reading, timings)
