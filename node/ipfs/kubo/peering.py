"""Keeping a daemon connected to those of other nodes, so that a swarm without routing is one."""

from collections.abc import Sequence
from typing import Final

import structlog

from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.ipfs.kubo.rpc import CommandError

_log: Final = structlog.get_logger(__name__)


class Peering:
    """What one daemon was told; peerings that somebody else made there are left alone."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._identity = ""
        self._kept: dict[str, SwarmPeer] = {}
        self._refused: dict[str, SwarmPeer] = {}
        """What it said no to, so that it is not told again, and people not either, every few seconds."""
        self._others: set[str] = set()

    async def keep(self, identity: str, peers: Sequence[SwarmPeer]) -> None:
        """Have the daemon `identity` keep connections to these, and no longer to those that were named before.

        Raises:
            UnreachableError: when the daemon gives no answer.
        """
        there = await self._daemon.peered()
        if identity != self._identity or not self._kept.keys() <= there:  # it was started anew, and forgot them
            self._identity, self._others = identity, there - self._kept.keys()
            self._kept = {peer_id: peer for peer_id, peer in self._kept.items() if peer_id in there}
            self._refused.clear()
        named = {peer.peer_id: peer for peer in peers if peer.peer_id not in (identity, *self._others)}
        for peer_id in self._kept.keys() - named.keys():
            await self._daemon.part_from(peer_id)
            del self._kept[peer_id]
        self._refused = {peer_id: peer for peer_id, peer in self._refused.items() if named.get(peer_id) == peer}
        for peer_id, peer in named.items():
            if self._kept.get(peer_id) != peer and peer_id not in self._refused:
                await self._meet(peer)

    async def _meet(self, peer: SwarmPeer) -> None:
        try:
            await self._daemon.peer_with(peer)
        except CommandError as error:
            _log.warning("kubo does not peer", peer=peer.peer_id, why=str(error))
            self._refused[peer.peer_id] = peer
        else:
            _log.info("kubo keeps a connection", peer=peer.peer_id, at=list(peer.addresses))
            self._kept[peer.peer_id] = peer
