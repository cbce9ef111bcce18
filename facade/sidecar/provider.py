"""How this node names itself to its Kubo: a peer id, and where blocks are read.

Delegated Routing V1, "Peer Schema".
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

from facade.settings import Address
from node.errors import InvalidError

GATEWAY: Final = "transport-ipfs-gateway-http"
"""The protocol by which blocks are read: a trustless gateway over HTTP."""
LONGEST_PEER_ID: Final = 128
_SHA256_MULTIHASH: Final = b"\x12\x20"
_LIBP2P_KEY: Final = "libp2p-key"


@dataclass(frozen=True, slots=True)
class PeerId:
    """A libp2p peer id: the multihash of a public key."""

    multihash: bytes

    @classmethod
    def of_node(cls, node_id: str) -> Self:
        """The same for as long as the node keeps its id. Nobody can prove to be this peer; over HTTP nobody asks."""
        return cls(_SHA256_MULTIHASH + hashlib.sha256(f"layermesh {node_id}".encode()).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a multihash in base58btc, or a CIDv1 of a libp2p key.

        Raises:
            InvalidError: when it is neither.
        """
        from multiformats import CID, multibase, multihash  # half of a start's loading, and seldom needed

        try:
            if len(text) > LONGEST_PEER_ID:
                raise ValueError(f"at most {LONGEST_PEER_ID} characters are expected")
            if text.startswith(("Qm", "1")):
                raw = bytes(multibase.decode("z" + text))
                multihash.unwrap(raw)
                return cls(raw)
            cid = CID.decode(text)
            if cid.codec.name != _LIBP2P_KEY:
                raise ValueError("it is the CID of something else")
            return cls(bytes(cid.digest))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InvalidError(f"peer id {text[:80]!r}: {error}") from None

    def __str__(self) -> str:
        from multiformats import multibase

        return multibase.encode(self.multihash, "base58btc")[1:]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a client can use: names of protocols in addresses, and of protocols of transfer; all when empty.

    Delegated Routing V1, "filter-addrs" and "filter-protocols".
    """

    addrs: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Read a request's query; names that nobody knows match nothing."""
        return cls(_names(query.get("filter-addrs", "")), _names(query.get("filter-protocols", "")))


@dataclass(frozen=True, slots=True)
class Provider:
    """This node, as its own daemon reaches it: over plain HTTP on loopback."""

    id: PeerId
    address: Address
    """A numeric host, for Kubo reads plain HTTP from such addresses alone."""

    @property
    def multiaddr(self) -> str:
        """Where blocks are read, such as `/ip4/127.0.0.1/tcp/5054/http`."""
        return f"/{self._network}/{self.address.host}/tcp/{self.address.port}/http"

    @property
    def _network(self) -> str:
        return "ip4" if ip_address(self.address.host).version == 4 else "ip6"

    def record(self, filters: Filters) -> dict[str, str | list[str]] | None:
        """The record as the API has it; None when the client could not use it."""
        if filters.protocols and GATEWAY not in filters.protocols:
            return None
        if not _passes({self._network, "tcp", "http"}, filters.addrs):
            return None
        return {"Schema": "peer", "ID": str(self.id), "Addrs": [self.multiaddr], "Protocols": [GATEWAY]}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.lower().split(",") if name)


def _passes(protocols: set[str], wanted: Sequence[str]) -> bool:
    """Whether an address of these protocols has none that is wanted not, and one that is, if any is."""
    unwanted = {name[1:] for name in wanted if name.startswith("!")}
    positive = {name for name in wanted if not name.startswith("!")}
    return not protocols & unwanted and (not positive or bool(protocols & positive))
