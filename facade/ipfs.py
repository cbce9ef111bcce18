"""The IPFS network as a source of blobs: what is worth asking it for, and how a blob comes from it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol, TypeAlias

import structlog

from cluster.cluster import Cluster, Holder
from cluster.config import Limits, Timings
from cluster.swarm.leaves import WrongMappingError, fetch_dag
from cluster.swarm.swarm import Faults, Source, Swarm
from facade.mappings import Mapping, Mappings, cid_of_small
from facade.sources import NetworkFile, Offer, SourceName
from node.cid import Cid
from node.digest import Digest
from node.errors import LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.kubo.kubo import Kubo, OnDaemon
from node.ipfs.unixfs import Given, open_by_blocks
from node.naming import Name
from node.reference import OWN, Repository
from node.repositories import Link
from node.source import Sink, Wanted
from node.store import Store

log = structlog.get_logger(__name__)
MOST_OFFERS: Final = 2
ASIDE_S: Final = 60.0
LOOK_S: Final = 0.25
"""How long the swarm may take to show that somebody has a block."""
LATE_LOOK_S: Final = 1.5
"""How long it may take where upstream failed, and nobody else is left."""

_LEAVES_AT_ONCE: Final = 64
"""Kubo reads some MiB beyond the end of each range that it is asked for: with ranges of 16, as much again."""
_PINNED_S: Final = 0.5
_MOST_ROOTED: Final = 4096


class Ipfs(Protocol):
    """An IPFS network, as a source of what anybody may have."""

    async def offers(self, wanted: Wanted) -> Sequence[Offer]:
        """What the network may be asked for a blob, best first; nothing when it cannot be used. Answers at once."""

    async def fetch(self, wanted: Wanted, file: NetworkFile, sink: Sink, *, late: bool = False) -> None:
        """Fetch a blob, each leaf verified, going on from `sink.prefix`. Whoever is cancelled was too slow: others come
        before him for a while.

        `late`: nobody else is left, so who is set aside for having been slow is asked as well.

        Raises:
            NotFoundError, UnreachableError: when the network does not give it (any more); what was written stays.
            MismatchError: when the CID is none of a blob of that size.
            FullError: when the disk has no room.
        """

    async def small(self, repository: Repository, digest: Digest, *, late: bool) -> bytes | None:
        """A blob of at most 1 MiB, whose bytes hash to `digest`; None where the network does not give it soon.

        `late`: also where nobody says that anybody has it.
        """

    async def obtainable(self, repository: Repository, digest: Digest, *, late: bool) -> bool:
        """Whether the network shows that it has a blob; with `late` it may take its time for that."""


class NoIpfs:
    """The network of a node without one: it has nothing."""

    async def offers(self, wanted: Wanted) -> Sequence[Offer]:
        """Nothing."""
        return ()

    async def fetch(self, wanted: Wanted, file: NetworkFile, sink: Sink, *, late: bool = False) -> None:
        """Nothing is offered that could be fetched."""
        raise NotFoundError(f"{wanted.digest}: this node has no IPFS network to ask")

    async def small(self, repository: Repository, digest: Digest, *, late: bool) -> bytes | None:
        """Nothing."""
        return None

    async def obtainable(self, repository: Repository, digest: Digest, *, late: bool) -> bool:
        """Nothing."""
        return False


NO_IPFS: Final = NoIpfs()


Read: TypeAlias = Callable[[Wanted, NetworkFile, Sink], Awaitable[None]]
"""Writes a file, each leaf verified, going on from the sink's prefix; raises as `Ipfs.fetch`."""


def by_gateway(kubo: Kubo, timings: Timings) -> Read:
    """Leaves are parts of the file that its gateway gives, several at once."""
    at_hand = Limits(leaves_per_request=_LEAVES_AT_ONCE)
    afar = Limits(requests_per_peer=1)  # in order, behind the pin of it

    async def read(wanted: Wanted, file: NetworkFile, sink: Sink) -> None:
        swarm = Swarm(kubo.reading, timings, at_hand if file.here else afar, _faults(kubo, file.cid))
        source = Source("kubo", kubo.gateway, lambda _target: {}, wanted.digest)
        await swarm.fetch(file.cid, file.size, [source], sink)

    return read


def by_blocks(network: OnDaemon, limit_s: float) -> Read:
    """Leaves are blocks, which its RPC gives one after another, each within `limit_s`."""

    async def block(cid: Cid) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await network.block(cid)
        except TimeoutError:
            raise UnreachableError(f"{cid}: it took longer than {limit_s:g} s") from None
        except MismatchError as error:  # of one block: that the CID is the blob's is not in doubt
            _gave_wrong(network, cid, str(error))
            raise UnreachableError(str(error)) from None

    async def read(_wanted: Wanted, file: NetworkFile, sink: Sink) -> None:
        sink.expect(file.size)
        await fetch_dag(file.cid, file.size, block)
        at = sink.prefix
        async with open_by_blocks(Given(block), Name(file.cid), at) as pieces:
            async for piece in pieces:
                await sink.write(at, piece)
                at += len(piece)

    return read


class KuboSource:
    """`Ipfs` on a Kubo, whose files `read` writes; fetched from its swarm."""

    def __init__(self, store: Store, cluster: Cluster, kubo: OnDaemon, read: Read) -> None:
        self._store = store
        self._mappings = Mappings(store, cluster, self._is_vouched)
        self._kubo = kubo
        self._read = read
        self._rooted: set[Cid] = set()
        """Files of which only the root was asked for, or a part came: that it is there says nothing of the rest."""
        self._aside: dict[str, float] = {}
        """Peers whose daemons did not give what they named, and until when others are asked before them."""
        self._aside_until = 0.0
        """The same of the own daemon: it was slow to give what it has, or has only a part."""

    async def offers(self, wanted: Wanted) -> Sequence[Offer]:
        """Implements `Ipfs.offers`: mappings of this node and of members, then those that strangers name."""
        if not self._kubo.usable or wanted.repository.namespace == OWN:
            return ()
        named: dict[Cid, Mapping] = {}
        for one in await self._mappings.of(wanted):
            if len(named) < MOST_OFFERS:
                named.setdefault(one.cid, one)
        found: list[Offer] = []
        waits = False
        for one, here in zip(named.values(), await asyncio.gather(*map(self._here, named)), strict=True):
            late = not self._is_prompt or (not here and (waits or not one.vouched))
            waits |= not (here or late)  # before upstream is asked, a pull waits for the swarm once
            file = NetworkFile(one.cid, one.size, here, awaited=one.believed)
            found.append(Offer(SourceName.IPFS, (), one.believed, file, late))
        return tuple(found)

    async def fetch(self, wanted: Wanted, file: NetworkFile, sink: Sink, *, late: bool = False) -> None:
        """Implements `Ipfs.fetch`: what the daemon has not, it pins, while that is read behind what has come."""
        begun = sink.prefix
        try:
            async with self._kept(wanted.digest, file):
                await self._read(wanted, file, sink)
            self._rooted.discard(file.cid)
        except WrongMappingError:
            raise
        except asyncio.CancelledError:
            if file.here and file.awaited:
                self._kubo.was_slow(file.cid)
            if file.awaited:
                self._leave(wanted.digest, file)
            raise
        except (NotFoundError, UnreachableError) as error:
            if file.here:
                self._kubo.doubt(file.cid)
            if not await self._kubo.here(file.cid):
                raise NotFoundError(f"{file.cid}: Kubo does not find it in the swarm") from None
            self._remember(file.cid)
            self._leave(wanted.digest, file)
            raise UnreachableError(f"{file.cid}: Kubo gives only a part of it: {error}") from None
        finally:
            if not file.here and sink.prefix == begun and file.size:
                self._put_aside(wanted.digest)

    async def small(self, repository: Repository, digest: Digest, *, late: bool) -> bytes | None:
        """Implements `Ipfs.small`: such a blob is one block, whose CID is its digest."""
        cid = cid_of_small(digest)
        if not self._kubo.usable or cid is None or not await self._mappings.may_ask(repository, digest):
            return None
        asks = self._is_prompt and (self._is_vouched(self._mappings.named(digest)) or await self._kubo.here(cid))
        if not (late or asks):
            return None
        data = await self._block(cid, late=late)
        if data is None:
            self._put_aside(digest)
        return data

    async def obtainable(self, repository: Repository, digest: Digest, *, late: bool) -> bool:
        """Implements `Ipfs.obtainable`: the root of the file is here, or comes from the swarm within moments."""
        link = await self._link(repository, digest)
        for offer in await self.offers(Wanted(repository, digest, link.size if link else None)):
            assert offer.file is not None, "an offer of the network is a file"
            if offer.file.here:
                return True
            if offer.late and not late:
                continue
            if await self._block(offer.file.cid, late=late) is not None:
                self._remember(offer.file.cid)
                return True
            self._put_aside(digest)
        return False

    async def _here(self, cid: Cid) -> bool:
        return cid not in self._rooted and await self._kubo.here(cid)

    def _remember(self, cid: Cid) -> None:
        if len(self._rooted) >= _MOST_ROOTED:
            self._rooted.clear()
        self._rooted.add(cid)

    def _is_vouched(self, holders: Sequence[Holder]) -> bool:
        """Whether any of them is one whose daemon may have what he named."""
        now = asyncio.get_running_loop().time()
        return any(self._aside.get(each.peer_id, now) <= now for each in holders)

    def _put_aside(self, digest: Digest) -> None:
        """The swarm does not have what these named: they cost one pull a moment, and not each blob of it."""
        now = asyncio.get_running_loop().time()
        self._aside = {peer_id: until for peer_id, until in self._aside.items() if until > now}
        self._aside.update({each.peer_id: now + ASIDE_S for each in self._mappings.named(digest)})

    def _leave(self, digest: Digest, file: NetworkFile) -> None:
        """A file came too slowly, or not to its end: others come before whoever has it."""
        if file.here:
            self._aside_until = asyncio.get_running_loop().time() + ASIDE_S
            log.info("kubo set aside", cid=str(file.cid))
        else:
            self._remember(file.cid)
            self._put_aside(digest)

    @property
    def _is_prompt(self) -> bool:
        """Whether a pull may wait for the daemon that could go elsewhere."""
        return self._kubo.is_prompt and asyncio.get_running_loop().time() >= self._aside_until

    async def _link(self, repository: Repository, digest: Digest) -> Link | None:
        try:
            return await self._store.repositories.link(repository, digest)
        except UnreachableError:
            return None

    async def _block(self, cid: Cid, *, late: bool) -> bytes | None:
        try:
            async with asyncio.timeout(LATE_LOOK_S if late else LOOK_S):
                return await self._kubo.block(cid)
        except MismatchError as error:
            _gave_wrong(self._kubo, cid, str(error))
            return None
        except (LayermeshError, TimeoutError) as error:
            log.debug("ipfs gave no block", cid=str(cid), why=str(error) or "no answer in time")
            return None

    @asynccontextmanager
    async def _kept(self, digest: Digest, file: NetworkFile) -> AsyncIterator[None]:
        """Have the daemon fetch what it has not by itself: in the order of the file, and many blocks at once."""
        if file.here:
            yield
            return
        pinning = asyncio.create_task(self._pin(digest, file.cid), name=f"pin {file.cid}")
        try:
            yield
            await asyncio.wait([pinning], timeout=_PINNED_S)  # it has all blocks by now
        finally:
            pinning.cancel()
            with suppress(asyncio.CancelledError):
                await pinning

    async def _pin(self, digest: Digest, cid: Cid) -> None:
        try:
            await self._kubo.fetch(cid, digest)
        except LayermeshError as error:
            log.debug("ipfs did not pin", cid=str(cid), why=str(error))


def _gave_wrong(kubo: OnDaemon, cid: Cid, why: str) -> None:
    log.warning("kubo gave wrong bytes", cid=str(cid), why=why)
    kubo.gave_wrong(cid, why)


def _faults(kubo: OnDaemon, cid: Cid) -> Faults:
    return Faults(
        failed=lambda source, reason: log.info("kubo did not give a file", cid=str(cid), why=reason),
        lied=lambda source, reason: _gave_wrong(kubo, cid, reason),
        lacks=lambda source: None,
        received=lambda source, size_bytes: None,
    )
