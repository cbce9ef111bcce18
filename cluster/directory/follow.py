"""Reading one peer's log for as long as it lives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from cluster.config import Timings
from cluster.directory.directory import Directory
from cluster.directory.log import PeerLog
from cluster.messages import LogPage
from cluster.tls import Pin
from cluster.wire import MeshClient
from node.errors import DeniedError, FullError, InvalidError, UnreachableError

REFUSED_PAUSE_S: Final = 5.0
EMPTY_PAUSE_S: Final = 0.25
STRANGER_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Followed:
    """The peer whose log is read: a member's over authenticated requests only, under TLS to its own certificate."""

    peer_id: str
    url: URL
    member: bool
    pin: Pin | None = None


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom a follower tells what."""

    unreachable: Callable[[Followed, str], None]
    lied: Callable[[Followed, str], None]
    note: Callable[[Followed, str | None], None]
    too_large: Callable[[str], None]


class Follower:
    """Reads logs; one for all peers."""

    def __init__(self, client: MeshClient, directory: Directory, timings: Timings, reports: Reports) -> None:
        self._client = client
        self._directory = directory
        self._timings = timings
        self._reports = reports
        self._strangers = asyncio.Lock()

    async def follow(self, peer: Followed) -> None:
        """Read a peer's log until cancelled, or until the peer turns out to be a liar."""
        log = await self._directory.open(peer.peer_id, proven=peer.member)
        failures = 0
        while True:
            try:
                await self._read_on(peer, log)
                if failures:
                    self._reports.note(peer, None)
                failures = 0
            except InvalidError as error:
                await self._directory.forget(peer.peer_id)
                self._reports.lied(peer, str(error))
                return
            except UnreachableError as error:
                failures += 1
                self._reports.unreachable(peer, str(error))
                await asyncio.sleep(min(0.25 * 2 ** min(failures, 8), REFUSED_PAUSE_S))
            except FullError as error:
                failures += 1
                self._reports.note(peer, f"what it tells of own repositories is not kept: {error}")
                await asyncio.sleep(REFUSED_PAUSE_S)
            except DeniedError as error:
                failures += 1
                self._reports.note(peer, f"its log: {error}")
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _read_on(self, peer: Followed, log: PeerLog) -> None:
        wait_s = self._timings.poll_wait_s if log.whole else 0.0
        to = peer.peer_id if peer.member else None
        before, asked_at = log.since, asyncio.get_running_loop().time()
        asked_for = log.log_id, log.since
        page = await self._client.log(peer.url, *asked_for, to=to, wait_s=wait_s, pin=peer.pin)
        if (log.log_id, log.since) != asked_for:
            return  # it was forgotten meanwhile: this page does not begin where reading begins now
        await self._take(peer, log, page)
        await self._make_room()
        quick = asyncio.get_running_loop().time() - asked_at < EMPTY_PAUSE_S
        if log.since == before and quick and wait_s:
            await asyncio.sleep(EMPTY_PAUSE_S)

    async def _take(self, peer: Followed, log: PeerLog, page: LogPage) -> None:
        if peer.member:
            await self._directory.take(peer.peer_id, log, page)
            return
        async with self._strangers:  # reading pages costs time that strangers could otherwise take as they like
            await self._directory.take(peer.peer_id, log, page)
            await asyncio.sleep(STRANGER_PAUSE_S)

    async def _make_room(self) -> None:
        largest = self._directory.largest()
        if largest is not None:
            await self._directory.forget(largest)
            self._reports.too_large(largest)
