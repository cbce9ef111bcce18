"""Which hosts belong together, and which addresses no stranger may send us to: pure."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from yarl import URL

_NAT64: Final = IPv6Network("64:ff9b::/96")
_SECOND_LEVEL: Final = frozenset({"ac", "co", "com", "edu", "gov", "mil", "ne", "net", "nom", "or", "org"})
# fmt: off
_SHARED: Final = frozenset(
    {
        "amazonaws.com", "appspot.com", "azure.com", "azurecr.io", "azureedge.net", "azurewebsites.net",
        "cloudapp.net", "cloudfront.net", "digitaloceanspaces.com", "fastly.net", "fly.dev", "github.io", "gitlab.io",
        "googleapis.com", "googleusercontent.com", "herokuapp.com", "netlify.app", "ngrok.io", "on.aws",
        "onrender.com", "pages.dev", "pkg.dev", "r2.dev", "run.app", "vercel.app", "web.app", "windows.net",
        "workers.dev",
    }
)
"""Domains whose names below belong to different people."""
# fmt: on


def is_local_address(text: str) -> bool:
    """Whether this IP address, or the IPv4 address in it, is not of the public internet; False for any other text."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
    return not address.is_global or address.is_multicast


def is_local_host(host: str) -> bool:
    """As `is_local_address`, and for names that always mean this machine."""
    name = host.lower().rstrip(".")
    return is_local_address(name) or name == "localhost" or name.endswith(".localhost")


def same_origin(one: URL, other: URL) -> bool:
    """Whether both have the same scheme, host and port (RFC 6454)."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def same_owner(one: str, other: str) -> bool:
    """Whether two hosts are the same, or lie below the same registrable domain, judged without the public suffix list.

    Addresses and names of one label belong only to themselves, and so do names below domains that many share.
    """
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    if one == other:
        return True
    domain = _registrable(one)
    return domain is not None and domain == _registrable(other)


def _registrable(host: str) -> str | None:
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit() or len(labels) < 2:
        return None
    is_country = len(labels[-1]) == 2
    count = 3 if is_country and labels[-2] in _SECOND_LEVEL else 2
    domain = ".".join(labels[-count:])
    return None if len(labels) < count or domain in _SHARED else domain


def is_loopback_host(host: str) -> bool:
    """Whether this name or address means this machine."""
    name = host.lower().rstrip(".")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
