"""Where a Kubo is, what it is shown, and which of the addresses that others name are dialled."""

import pytest
from yarl import URL

from node.errors import InvalidError
from node.ipfs.kubo.endpoint import Endpoint, parse_authorization, parse_rpc
from node.ipfs.kubo.multiaddrs import MOST_ADDRESSES, SwarmPeer, gateway_url

PEER = "12D3KooWKvjC3xc6nirAzw42NfB67zTag8Qz4e6LoLAaq97y23kF"


@pytest.mark.parametrize(
    ("text", "url", "socket"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001", None),
        ("http://[::1]:5001/", "http://[::1]:5001", None),
        ("https://kubo.test", "https://kubo.test", None),
        ("unix:///run/kubo/api.sock", "http://localhost", "/run/kubo/api.sock"),
    ],
)
def test_an_rpc_is_reached_over_tcp_tls_or_a_unix_socket(text: str, url: str, socket: str | None) -> None:
    assert parse_rpc(text) == (URL(url), socket)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:5001",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:5001/api/v0",
        "http://127.0.0.1:5001?token=x",
        "https://",
        "unix://run/api.sock",
        "unix:",
        "ftp://kubo.test:1",
        "http://kubo.test:999999",
        "http://kubo..test:5001",
        "http://" + "k" * 64 + ".test:5001",
    ],
)
def test_what_is_no_rpc_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is expected"):
        parse_rpc(text)


def test_a_login_does_not_belong_in_the_url_and_is_not_repeated() -> None:
    with pytest.raises(InvalidError, match="ipfs_auth_file") as caught:
        parse_rpc("http://me:geheim@127.0.0.1:5001")
    assert "geheim" not in str(caught.value)


def test_logins_have_kubos_own_form() -> None:
    assert parse_authorization("bearer:abc\n") == "Bearer abc"
    assert parse_authorization("basic:me:pass word") == "Basic bWU6cGFzcyB3b3Jk"


@pytest.mark.parametrize("text", ["", "abc", "bearer:", "bearer:a b", "basic:me", "bearer:a\nb", "digest:a:b"])
def test_other_logins_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="expected"):
        parse_authorization(text)


def test_an_endpoint_never_shows_its_login() -> None:
    assert "geheim" not in repr(Endpoint(URL("http://a.test:1"), authorization="Bearer geheim"))


@pytest.mark.parametrize(
    ("value", "host", "url"),
    [
        ("/ip4/127.0.0.1/tcp/8080", "127.0.0.1", "http://127.0.0.1:8080"),
        ("/ip4/0.0.0.0/tcp/8080", "kubo.test", "http://kubo.test:8080"),
        ("/ip4/0.0.0.0/tcp/8080", "localhost", "http://127.0.0.1:8080"),
        ("/ip6/::/tcp/8080", "10.0.0.7", "http://10.0.0.7:8080"),
        ("/dns4/localhost/tcp/8080", "127.0.0.1", "http://127.0.0.1:8080"),
        (["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.7/tcp/8080"], "10.0.0.7", "http://10.0.0.7:8080"),
        (["/unix/a.sock", "/ip6/::1/tcp/8080"], "127.0.0.1", "http://[::1]:8080"),
    ],
)
def test_the_gateway_is_reached_where_the_daemon_listens(value: object, host: str, url: str) -> None:
    assert gateway_url(value, host) == URL(url)


@pytest.mark.parametrize("value", [None, "", [], 5, "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/tcp/99999", "nonsense"])
def test_without_a_gateway_that_is_said(value: object) -> None:
    with pytest.raises(InvalidError, match="switched off"):
        gateway_url(value, "127.0.0.1")


@pytest.mark.parametrize("name", ["a:b", ":", "1:2:3", "....", "kubo..test", "k" * 64])
def test_a_gateway_at_what_is_no_host_is_told_of(name: str) -> None:
    with pytest.raises(InvalidError, match="no address"):
        gateway_url(f"/dns4/{name}/tcp/8080", "127.0.0.1")


def test_a_gateway_on_the_loopback_of_another_machine_is_not_reached() -> None:
    with pytest.raises(InvalidError, match="its own loopback"):
        gateway_url("/ip4/127.0.0.1/tcp/8080", "10.0.0.7")


def test_a_daemons_addresses_are_those_that_can_be_dialled() -> None:
    peer = SwarmPeer.parse(
        PEER,
        [
            f"/ip4/10.0.0.7/tcp/4001/p2p/{PEER}",
            "/ip4/10.0.0.7/udp/4001/quic-v1",
            "/ip6/fd00::7/tcp/4001",
            "/ip4/10.0.0.7/tcp/4001",
            "/ip4/10.0.0.7/tcp/4001/p2p/12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake",
            "/dns4/evil.test/tcp/4001",
            "/ip4/10.0.0.7/tcp/70000",
            "/ip4/fd00::7/tcp/4001",
            "/ip4/10.0.0.7/tcp/4001/p2p-circuit",
            "x" * 300,
        ],
    )
    assert peer.addresses == ("/ip4/10.0.0.7/tcp/4001", "/ip4/10.0.0.7/udp/4001/quic-v1", "/ip6/fd00::7/tcp/4001")


def test_of_many_addresses_few_are_kept() -> None:
    many = [f"/ip4/10.0.0.7/tcp/{port}" for port in range(1, 100)]
    assert len(SwarmPeer.parse(PEER, many).addresses) == MOST_ADDRESSES
    unread = iter(many)
    SwarmPeer.parse(PEER, unread)
    assert len(list(unread)) == len(many) - MOST_ADDRESSES  # a daemon's list of a MiB costs no more than a short one


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "node.test"])
def test_addresses_within_others_are_not_dialled(host: str) -> None:
    named = ("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:10.0.0.7")
    peer = SwarmPeer.parse(PEER, [f"/ip6/{address}/tcp/5001" for address in named])
    for believed in (True, False):
        assert not peer.seen_from(host, believed=believed).addresses


@pytest.mark.parametrize("peer_id", ["", "short", "0" * 52, "1" * 70, "12D3KooW/../x" + "1" * 40])
def test_what_is_no_peer_id_is_refused(peer_id: str) -> None:
    with pytest.raises(InvalidError, match="peer id"):
        SwarmPeer.parse(peer_id, [])


def test_a_stranger_that_was_joined_by_name_is_dialled_by_it() -> None:
    peer = SwarmPeer.parse(PEER, ["/ip4/10.0.0.7/tcp/4001", "/ip4/127.0.0.1/tcp/4001", "/ip4/10.0.0.8/tcp/4001"])
    assert peer.seen_from("node.test", believed=False).addresses == ("/dns/node.test/tcp/4001",)
    assert peer.seen_from("localhost", believed=False).addresses == ("/ip4/127.0.0.1/tcp/4001",)


@pytest.mark.parametrize(
    ("host", "believed", "dialled"),
    [
        ("10.0.0.7", False, {"10.0.0.7"}),
        ("10.0.0.8", False, set()),
        ("10.0.0.8", True, {"10.0.0.7", "192.168.1.1"}),
        ("127.0.0.1", False, {"127.0.0.1"}),
        ("127.0.0.1", True, {"127.0.0.1", "10.0.0.7", "192.168.1.1"}),
    ],
)
def test_a_stranger_names_only_daemons_on_its_own_machine(host: str, believed: bool, dialled: set[str]) -> None:
    named = ("127.0.0.1", "10.0.0.7", "192.168.1.1", "224.0.0.1", "169.254.169.254", "0.0.0.0")
    peer = SwarmPeer.parse(PEER, [f"/ip4/{address}/tcp/4001" for address in named])
    seen = peer.seen_from(host, believed=believed)
    assert {address.split("/")[2] for address in seen.addresses} == dialled
