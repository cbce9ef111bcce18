"""The listening sockets, bound before anything else starts, so that a port in use is the first thing said."""

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from facade.settings import Address
from node.errors import StartError

BACKLOG: Final = 4096
"""Podman opens a connection for each request, and a whole cluster may start at once; the kernel caps this."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, the address it really has, and the flag that changes it."""

    name: str
    socket: socket.socket
    address: Address
    flag: str


@contextmanager
def bound(wanted: Mapping[str, Address | None]) -> Iterator[dict[str, Listener]]:
    """Listen on every address, by the listener's name (`facade`, `docker-mirror`, `mesh`, ...); None is left out.

    Raises:
        StartError: naming the address, what is wrong, and the flag that changes it.
    """
    with ExitStack() as stack:
        listeners = {}
        for name, address in wanted.items():
            if address is not None:
                listeners[name] = _listen(name, address)
                stack.enter_context(listeners[name].socket)
        yield listeners


def _listen(name: str, address: Address) -> Listener:
    flag = f"--{name}"
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setblocking(False)
            made.bind(place)
            _unpaced(made)
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise StartError(f"{name} listener {address}: {_advice(error, address)}; {flag} HOST:PORT changes it") from None
    return Listener(name, made, Address(address.host, made.getsockname()[1]), flag)


def _unpaced(bound: socket.socket) -> None:
    """On loopback, have answers sent as fast as clients take them, whatever congestion control the machine has.

    BBR paces what it sends by what it has seen a path take. On loopback it sees its own pauses: where it is the
    machine's default, a third of the bytes per second came through. Reno is in every kernel and free to all users.
    """
    if ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback:
        with suppress(OSError):  # a kernel of some other kind
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def _advice(error: OSError, address: Address) -> str:
    if isinstance(error, socket.gaierror):
        return f"{address.host} does not resolve"
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use (`ss -ltnp 'sport = :{address.port}'` shows by what)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} is no address of this machine"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need root"
    return (error.strerror or str(error)).lower()
