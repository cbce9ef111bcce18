"""Many machines as one place to fetch blobs from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from aiohttp import web

from cluster.config import ClusterConfig
from node.cid import Cid
from node.digest import Digest
from node.reference import Repository, Tag
from node.source import Sink, Wanted

if TYPE_CHECKING:
    from node.catalog import Visibility
    from node.repositories import TagSeen
    from node.store import Store

OnEvent = Callable[[str, dict[str, object]], None]


class PeerState(StrEnum):
    """Where a peer stands."""

    CANDIDATE = "candidate"
    ALIVE = "alive"
    SUSPECT = "suspect"
    GONE = "gone"


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
    """The other nodes, seen from this one."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, one line each, such as an interface without multicast."""
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        """`/mesh/v1/...` for the mesh listener."""
        raise NotImplementedError

    def may_read(self, request: web.Request, visibility: Visibility) -> bool:
        """Whether whoever sent `request` may read what is that visible; a wrong proof may read nothing."""
        raise NotImplementedError

    def count_sent(self, size_bytes: int, request: web.Request) -> None:
        """Note bytes of a blob that were sent in answer to `request` (`on_sent` of the gateway's routes)."""
        raise NotImplementedError

    async def stop_polls(self, app: web.Application | None = None) -> None:
        """Answer the requests that wait for changes now, and let none wait again: for `app.on_shutdown`."""
        raise NotImplementedError

    def holders(self, digest: Digest) -> tuple[Holder, ...]:
        """Live peers that hold the blob and are not set aside, members first; from memory."""
        raise NotImplementedError

    async def fetch(self, wanted: Wanted, holders: Sequence[Holder], sink: Sink) -> None:
        """Fetch one blob from holders that name the same CID and size, going on from `sink.prefix`.

        Raises:
            NotFoundError: when none of them has it any more.
            UnreachableError: when no peer is left that gives bytes in time; what was written stays.
            MismatchError: when the CID is none of a blob of that size.
        """
        raise NotImplementedError

    def blame(self, digest: Digest, cid: Cid) -> None:
        """The whole fetched by `cid` did not hash to `digest`: forget the mapping, set aside all who named it."""
        raise NotImplementedError

    def tag(self, repository: Repository, tag: Tag, now: float) -> MemberTag | None:
        """The newest observation of a tag by a member, dated no later than 60 s after `now` (unix seconds)."""
        raise NotImplementedError

    def peers(self) -> tuple[PeerStatus, ...]:
        """Every peer and candidate, by name."""
        raise NotImplementedError


@asynccontextmanager
async def open_cluster(
    config: ClusterConfig, store: Store, *, clock: Callable[[], float] = time.time, on_event: OnEvent | None = None
) -> AsyncIterator[Cluster]:
    """Take part in the cluster until the block is left; the mesh listener must be bound before."""
    raise NotImplementedError
    yield Cluster()
