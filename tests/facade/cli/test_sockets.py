"""Addresses that cannot be had are said in one line."""

import socket
from collections.abc import Iterator

import pytest

from facade.cli.sockets import bound
from facade.settings import Address
from node.errors import StartError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_port_0_becomes_the_port_the_system_chose() -> None:
    with bound({"facade": Address("127.0.0.1", 0), "docker-mirror": None}) as listeners:
        assert list(listeners) == ["facade"]
        with socket.create_connection(("127.0.0.1", listeners["facade"].address.port), timeout=5):
            pass


def test_a_port_in_use_names_the_flag_and_leaves_nothing_bound(taken: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    wanted = {"facade": Address("127.0.0.1", free), "docker-mirror": Address("127.0.0.1", taken)}
    with pytest.raises(StartError) as caught, bound(wanted):
        pass
    assert str(caught.value).startswith(f"docker-mirror listener 127.0.0.1:{taken}: the port is in use")
    assert str(caught.value).endswith("--docker-mirror HOST:PORT changes it")
    with socket.create_server(("127.0.0.1", free)):
        pass


@pytest.mark.parametrize(
    ("host", "message"), [("192.0.2.1", "is no address of this machine"), ("no-such-host.invalid", "does not resolve")]
)
def test_an_address_of_another_machine_is_refused(host: str, message: str) -> None:
    with pytest.raises(StartError, match=message), bound({"mesh": Address(host, 0)}):
        pass


@pytest.mark.parametrize(("host", "unpaced"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False)])
def test_only_what_is_sent_on_loopback_is_free_of_the_machines_congestion_control(host: str, unpaced: bool) -> None:
    with socket.socket() as plain:
        default = _congestion_control(plain)
    with bound({"facade": Address(host, 0)}) as listeners:
        listener = listeners["facade"]
        place = ("127.0.0.1" if host == "0.0.0.0" else host, listener.address.port)
        listener.socket.setblocking(True)
        with socket.create_connection(place, timeout=5), listener.socket.accept()[0] as accepted:
            assert _congestion_control(accepted) == ("reno" if unpaced else default)


def _congestion_control(of: socket.socket) -> str:
    return of.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
