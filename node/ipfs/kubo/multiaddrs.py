"""The multiaddrs that matter here: where a daemon's gateway listens, and where others reach it in the swarm."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from yarl import URL

from node.errors import InvalidError
from node.hosts import is_host

MOST_ADDRESSES: Final = 8
_LISTENING: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([A-Za-z0-9.:_-]{1,253})/tcp/([0-9]{1,5})(?:/http)?")
_SWARM: Final = re.compile(
    r"/(ip4|ip6)/([0-9A-Fa-f.:]{2,45})/(?:tcp/([0-9]{1,5})|udp/([0-9]{1,5})/quic-v1)(?:/p2p/([A-Za-z0-9]+))?"
)
_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PEER_ID: Final = re.compile("[1-9A-HJ-NP-Za-km-z]{46,64}")


@dataclass(frozen=True, slots=True)
class SwarmPeer:
    """A daemon of the swarm: its peer id, and where it says that it is reached."""

    peer_id: str
    addresses: tuple[str, ...]

    @classmethod
    def parse(cls, peer_id: str, addresses: Iterable[str]) -> "SwarmPeer":
        """Check the id; addresses of other kinds than IP with TCP or QUIC are left out, and all beyond eight.

        Raises:
            InvalidError: when the id is none.
        """
        if not _PEER_ID.fullmatch(peer_id):
            raise InvalidError(f"peer id {peer_id[:80]!r}: 46 to 64 base58 characters are expected")
        usable: list[str] = []
        for address in addresses:
            found = _swarm_address(address, peer_id)
            if found is not None and found not in usable:
                usable.append(found)
            if len(usable) == MOST_ADDRESSES:
                break
        return cls(peer_id, tuple(usable))

    def seen_from(self, host: str, *, believed: bool) -> "SwarmPeer":
        """As whoever knows the node beside it at `host` may dial it.

        Others could make this machine's daemon dial anything: a stranger's is dialled at the node's own address (or
        name), a member's anywhere but on loopback, unless the node is there as well.
        """
        addresses = [_seen_from(host, each, believed=believed) for each in self.addresses]
        return SwarmPeer(self.peer_id, tuple(dict.fromkeys(each for each in addresses if each is not None)))


def gateway_url(value: object, host: str) -> URL:
    """Where the gateway is reached that listens as a daemon's `Addresses.Gateway` says, on the machine `host`.

    Raises:
        InvalidError: when it listens nowhere, or where only that machine itself reaches it.
    """
    listed: Sequence[object] = value if isinstance(value, list) else [value]
    trouble = "its gateway is switched off (Addresses.Gateway)"
    for each in listed:
        found = _LISTENING.fullmatch(each) if isinstance(each, str) else None
        if found is None or not 0 < int(found[3]) < 65536:
            continue
        kind, name, port = found.groups()
        reached = _reached(name if not kind.startswith("dns") else None, name, host)
        if reached is None:
            trouble = f"its gateway listens on its own loopback alone ({each}), and this node is elsewhere"
            continue
        trouble = f"its gateway listens at what is no address ({each})"
        with suppress(ValueError):
            if is_host(reached):
                return URL.build(scheme="http", host=reached, port=int(port))
    raise InvalidError(trouble)


def _reached(address: str | None, name: str, host: str) -> str | None:
    """The name or address to ask; None where it cannot be reached from here."""
    if name == "localhost":
        address = "127.0.0.1"  # a gateway sends who asks for localhost elsewhere
    if address is None:
        return name
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if ip.is_unspecified:
        return "127.0.0.1" if _is_loopback(host) else host
    if ip.is_loopback and not _is_loopback(host):
        return None
    return str(ip)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _swarm_address(text: str, peer_id: str) -> str | None:
    """An address without the peer id at its end; None when it is no such address, or another peer's."""
    found = _SWARM.fullmatch(text) if len(text) <= 256 else None
    if found is None or found[5] not in (None, peer_id):
        return None
    try:
        version = ipaddress.ip_address(found[2]).version
    except ValueError:
        return None
    port = int(found[3] or found[4])
    if version != int(found[1][2]) or not 0 < port < 65536:
        return None
    return text.removesuffix(f"/p2p/{peer_id}")


def _seen_from(host: str, address: str, *, believed: bool) -> str | None:
    _, _, text, rest = address.split("/", 3)
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return None  # it is dialled as the IPv4 address within, and nobody listens at one written so
    if str(ip) == host.strip("[]") or (ip.is_loopback and _is_loopback(host)):
        return address
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local:
        return None
    if believed:
        return address
    return f"/dns/{host}/{rest}" if _NAME.fullmatch(host) and not _is_loopback(host) else None
