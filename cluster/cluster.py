"""Many machines as one place to fetch blobs from."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web
from yarl import URL

from cluster.assembly import Parts, assemble
from cluster.auth import WINDOW_S
from cluster.config import ClusterConfig
from cluster.membership import Contact, State
from cluster.peers import OnEvent
from cluster.swarm.leaves import WrongMappingError
from cluster.swarm.swarm import Source
from node.catalog import Holding, Visibility
from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, MismatchError, NotFoundError
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.reference import Repository, Tag
from node.repositories import TagSeen
from node.source import Sink, Wanted
from node.store import Store

PeerState: TypeAlias = State
_Held: TypeAlias = tuple[str, Holding, bool]
MOST_DAEMONS: Final = 256
"""So many IPFS daemons of peers are kept connections to."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A live peer that says that it holds a blob."""

    peer_id: str
    name: str
    url: str
    cid: Cid
    size: int
    member: bool
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class MemberTag:
    """What a member last saw a tag stand for."""

    seen: TagSeen
    peer_id: str
    peer_name: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer or candidate, for people. `id` and `name` are empty until it has answered once."""

    id: str
    name: str
    url: str
    state: PeerState
    member: bool
    last_seen: float | None
    """Unix seconds."""
    blobs: int
    set_aside: str | None
    """Why it is not asked at present."""
    note: str | None
    """What people should know of it, such as an authentication that failed."""
    received_bytes: int
    sent_bytes: int


class Cluster:
    """The other nodes, seen from this one. Made by `open_cluster`."""

    def __init__(self, parts: Parts) -> None:
        self._peers = parts.peers
        self._swarm = parts.swarm
        self._server = parts.server
        self._gate = parts.gate
        self._caller = parts.caller
        self._clock = parts.caller.clock
        self._certificate = parts.certificate
        self._warned = parts.warned
        self._me = parts.me

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, one line each, such as an interface without multicast."""
        twin, damage = self._peers.membership.twin, self._peers.directory.damage
        found = [*self._warned.values()]
        if twin is not None:
            found.append(f"the node at {twin} has this node's id: was the data folder copied?")
        if damage is not None:
            found.append(f"what peers hold is not kept on disk: {damage}")
        return tuple(found)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What the mesh listener speaks TLS with; None where it speaks none."""
        return self._certificate.context if self._certificate else None

    def routes(self) -> list[web.RouteDef]:
        """`/mesh/v1/...` for the mesh listener."""
        return self._server.routes()

    def may_read(self, request: web.Request, visibility: Visibility) -> bool:
        """Whether whoever sent `request` may read what is that visible; a wrong proof may read nothing."""
        return self._gate.may_read(request, visibility)

    def count_sent(self, size_bytes: int, request: web.Request) -> None:
        """Note bytes of a blob that were sent in answer to `request` (`on_sent` of the gateway's routes)."""
        self._peers.sent[self._sender(request)] += size_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes of blobs that came from peers."""
        return self._peers.received.total()

    @property
    def sent_bytes(self) -> int:
        """Bytes of blobs that went to others by the mesh listener."""
        return self._peers.sent.total()

    async def stop_polls(self, app: web.Application | None = None) -> None:
        """Answer the requests that wait for changes now, and let none wait again: for `app.on_shutdown`."""
        self._server.stop_polls()

    def holders(self, digest: Digest, repositories: Collection[Repository] = ()) -> tuple[Holder, ...]:
        """Live peers that hold the blob and are not set aside, members first; from memory.

        Those that share it as content of certain repositories count only where one of `repositories` is of those.
        """
        return self._live(self._peers.directory.holdings(digest, repositories))

    def rooted(self, cid: Cid) -> dict[Digest, tuple[Holder, ...]]:
        """As `holders`, for every blob that is said to have this root: none but one, unless somebody is wrong.

        Always empty unless the cluster was opened to be asked `by_cid`. What is shared as content of a repository is
        not among them.
        """
        named: dict[Digest, list[_Held]] = {}
        for held in self._peers.directory.rooted(cid):
            named.setdefault(held[1].digest, []).append(held)
        found = {digest: self._live(held) for digest, held in named.items()}
        return {digest: holders for digest, holders in found.items() if holders}

    def _live(self, held: Iterable[_Held]) -> tuple[Holder, ...]:
        found = []
        for peer_id, holding, proven in held:
            contact = self._peers.membership.peer(peer_id)
            if contact is None or contact.identity is None or contact.state is not State.ALIVE:
                continue
            if contact.identity.member is not proven or self._peers.penalty(contact) is not None:
                continue
            name, url = contact.identity.name, str(contact.url)
            found.append(Holder(peer_id, name, url, holding.cid, holding.size, proven, holding.visibility))
        return tuple(sorted(found, key=lambda holder: not holder.member))

    def named(self, digest: Digest) -> tuple[Holder, ...]:
        """Every peer that said it has the blob and was not caught lying, alive or not, members first; from memory.

        What they name may be had elsewhere: their IPFS daemons outlive them.
        """
        found = []
        for peer_id, holding, proven in self._peers.directory.holdings(digest):
            contact = self._peers.membership.peer(peer_id)
            if contact is None or contact.identity is None or contact.identity.member is not proven:
                continue
            penalty = self._peers.penalty(contact)
            if penalty is None or not penalty.lied:
                name, url = contact.identity.name, str(contact.url)
                found.append(Holder(peer_id, name, url, holding.cid, holding.size, proven, holding.visibility))
        return tuple(sorted(found, key=lambda holder: not holder.member))

    def introduce(self, daemon: SwarmPeer | None) -> None:
        """Tell peers of this node's IPFS daemon from now on; where there is a secret, members alone."""
        self._me.daemon = daemon

    def introduced(self) -> tuple[SwarmPeer, ...]:
        """The IPFS daemons of the peers known, whether these are alive or not, as this machine may dial them.

        Members' come first: where a stranger names the daemon of a member, what the member says counts.
        """
        told = [(each, each.identity) for each in self._peers.membership.contacts() if each.identity is not None]
        found: dict[str, SwarmPeer] = {}
        for contact, identity in sorted(told, key=lambda each: not each[1].member):
            penalty = self._peers.penalty(contact)
            if identity.daemon is None or (penalty is not None and penalty.lied):
                continue
            daemon = identity.daemon.seen_from(contact.url.host or "", believed=identity.member)
            if daemon.addresses:
                found.setdefault(daemon.peer_id, daemon)
        return tuple(found.values())[:MOST_DAEMONS]

    async def fetch(self, wanted: Wanted, holders: Sequence[Holder], sink: Sink) -> None:
        """Fetch one blob from holders that name the same CID and size, going on from `sink.prefix`.

        Raises:
            NotFoundError: when none of them has it any more.
            UnreachableError: when no peer is left that gives bytes in time; what was written stays.
            MismatchError: when the CID is none of a blob of that size, or of the size that is wanted.
            FullError: when the disk has no room.
        """
        if not holders:
            raise NotFoundError("no peer holds the blob")
        cid, size = holders[0].cid, holders[0].size
        usable = [each for each in holders if (each.cid, each.size) == (cid, size) and self._is_still(each)]
        if not usable:
            raise NotFoundError("the members that had the blob are not here any more")
        if wanted.size is not None and wanted.size != size:
            self.blame(wanted.digest, cid)
            raise MismatchError(f"{wanted.digest} has {wanted.size} bytes, {cid} is named with {size}")
        sources = [self._source(wanted.digest, holder) for holder in usable]
        random.shuffle(sources)  # so that many nodes that begin together do not all begin with the same peer
        try:
            await self._swarm.fetch(cid, size, sources, sink)
        except WrongMappingError:
            self.blame(wanted.digest, cid)
            raise

    def blame(self, digest: Digest, cid: Cid) -> None:
        """The whole fetched by `cid` did not hash to `digest`: forget the mapping, set aside all who named it."""
        for peer_id in self._peers.directory.naming(digest, cid):
            self._peers.directory.drop(peer_id, digest)
            contact = self._peers.membership.peer(peer_id)
            if contact is not None:
                self._peers.lied(contact.url, f"it named {cid} for {digest}, which it is not")

    def tag(self, repository: Repository, tag: Tag, now: float) -> MemberTag | None:
        """The newest observation of a tag by a member, dated no later than 60 s after `now` (unix seconds)."""
        best: MemberTag | None = None
        for peer_id, seen in self._peers.directory.seen(repository, tag):
            contact = self._peers.membership.peer(peer_id)
            if contact is None or contact.identity is None or not contact.identity.member:
                continue
            penalty = self._peers.penalty(contact)
            if penalty is not None and penalty.lied:
                continue
            if seen.seen_at <= now + WINDOW_S and (best is None or seen.seen_at > best.seen.seen_at):
                best = MemberTag(seen, peer_id, contact.identity.name)
        return best

    def peers(self) -> tuple[PeerStatus, ...]:
        """Every peer and candidate, by name."""
        shown = [self._status(contact) for contact in self._peers.membership.contacts()]
        return tuple(sorted(shown, key=lambda status: (status.name == "", status.name, status.url)))

    def _status(self, contact: Contact) -> PeerStatus:
        identity, penalty = contact.identity, self._peers.penalty(contact)
        peer_id = "" if identity is None else identity.id
        since = None if contact.last_seen is None else asyncio.get_running_loop().time() - contact.last_seen
        return PeerStatus(
            id=peer_id,
            name="" if identity is None else identity.name,
            url=str(contact.url),
            state=contact.state,
            member=identity is not None and identity.member,
            last_seen=None if since is None else self._clock() - since,
            blobs=self._peers.directory.count(peer_id),
            set_aside=None if penalty is None else penalty.reason,
            note=self._peers.note(contact),
            received_bytes=self._peers.received[peer_id],
            sent_bytes=self._peers.sent[peer_id],
        )

    def _is_still(self, holder: Holder) -> bool:
        """Whether what a member told is still asked of a member: who answers there since must not even hear a CID."""
        contact = self._peers.membership.peer(holder.peer_id)
        return not holder.member or (contact is not None and contact.identity is not None and contact.identity.member)

    def _source(self, digest: Digest, holder: Holder) -> Source:
        contact = self._peers.membership.peer(holder.peer_id)
        pin = contact.identity.pin if contact is not None and contact.identity is not None else None

        def proof(target: str) -> dict[str, str]:
            return self._caller.proof(holder.peer_id, "GET", target, pin=pin)[0] if holder.member else {}

        return Source(holder.peer_id, URL(holder.url), proof, digest, pin)

    def _sender(self, request: web.Request) -> str:
        try:
            proven = self._gate.prove(request)
        except DeniedError:
            return ""
        if proven is not None:
            return proven.sender if self._peers.membership.peer(proven.sender) is not None else ""
        for contact in self._peers.membership.live():
            if contact.url.host == request.remote and contact.identity is not None:
                return contact.identity.id
        return ""


@asynccontextmanager
async def open_cluster(
    config: ClusterConfig, store: Store, *, clock: Callable[[], float] = time.time, on_event: OnEvent | None = None
) -> AsyncIterator[Cluster]:
    """Take part in the cluster until the block is left; the mesh listener must be bound before.

    `on_event` is told what happens to peers: a word, and what it is about.
    """
    failure: BaseException | None = None
    async with AsyncExitStack() as stack:
        parts = await assemble(config, store, clock, on_event or (lambda event, about: None), stack)
        cluster = Cluster(parts)
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(part) for part in parts.running()]
                try:
                    yield cluster
                except BaseException as error:  # kept from the task group, which would wrap what is the caller's
                    failure = error
                for task in running:
                    task.cancel()
        finally:
            parts.server.stop_polls()
        if failure is not None:
            raise failure
