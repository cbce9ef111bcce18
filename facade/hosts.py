"""Who may talk to a loopback listener: a browser on this machine must not be lent to a page from elsewhere.

A page can make its own name resolve to 127.0.0.1 (DNS rebinding), and then the `Host` header still carries that name;
or it sends requests across origins, and then `Origin` names the page.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from facade.settings import Address

Refuse = Callable[[str], web.StreamResponse]
Foreign = Callable[[web.BaseRequest], str | None]
"""Says why a request is not answered; None when it is."""


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` is reached from this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(host: str | None, origin: str | None, listen_host: str) -> str | None:
    """Why a request with these headers is not answered on a loopback listener; None when it is.

    A request without `Host` (HTTP/1.0) comes from no browser. An `Origin` must be the listener itself.
    """
    if host is not None and not _local(host, listen_host):
        return f"Host {host[:80]!r} is not this machine: loopback names only, such as localhost"
    if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
        return f"Origin {origin[:80]!r} may not ask here"
    return None


@lru_cache(maxsize=64)
def _local(host: str, listen_host: str) -> bool:
    name = _name(host).lower()
    return name == listen_host.lower() or is_loopback(name)


def _name(host: str) -> str:
    """A `Host` header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def foreign(listen: Address) -> Foreign:
    """What finds the requests of foreign pages; on listeners beyond loopback it finds none."""
    listen_host = listen.host

    def why(request: web.BaseRequest) -> str | None:
        headers = request.headers
        return refusal(headers.get(hdrs.HOST), headers.get(hdrs.ORIGIN), listen_host)

    return why if is_loopback(listen_host) else lambda _: None


def guard(listen: Address, refuse: Refuse) -> Middleware:
    """A middleware that lets no foreign page through."""
    refused = foreign(listen)

    @web.middleware
    async def guarding(request: web.Request, handler: Handler) -> web.StreamResponse:
        if why := refused(request):
            return refuse(why)
        return await handler(request)

    return guarding
