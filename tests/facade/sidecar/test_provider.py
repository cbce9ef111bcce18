"""How a node names itself to its Kubo."""

import pytest

from facade.settings import Address
from facade.sidecar.provider import GATEWAY, Filters, PeerId, Provider
from node.errors import InvalidError

NODE = "0123456789abcdef" * 2
HERE = Provider(PeerId.of_node(NODE), Address("127.0.0.1", 5054))


def test_a_node_has_one_peer_id_for_good_and_no_other_has_it() -> None:
    assert PeerId.of_node(NODE) == PeerId.of_node(NODE)
    assert PeerId.of_node(NODE) != PeerId.of_node(NODE[::-1])
    assert str(PeerId.of_node(NODE)).startswith("Qm") and len(str(PeerId.of_node(NODE))) == 46
    assert PeerId.parse(str(PeerId.of_node(NODE))) == PeerId.of_node(NODE)


def test_a_peer_id_may_be_written_as_a_multihash_or_as_a_cid() -> None:
    plain = PeerId.parse("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
    assert str(plain) == "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    as_cid = PeerId.parse("bafzaajaiaejcbw5i6oyqsktsn36r2vxgl2jzosyao46rybqztxt4rx4tfa3hpogg")
    assert str(as_cid) == "12D3KooWQbpsnyzdBcxw6GUMbijV8WgXE4L8EtfnbcQWLfyxBKho"


@pytest.mark.parametrize(
    "text", ["", "1", "Qm", "Qm" + "z" * 44, "12D3Koo\0", "nonsense", "x" * 4000, "bafkqaaa", "1" * 128]
)
def test_what_is_no_peer_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="peer id"):
        PeerId.parse(text)


def test_the_record_says_where_blocks_are_read() -> None:
    assert HERE.record(Filters()) == {
        "Schema": "peer",
        "ID": str(HERE.id),
        "Addrs": ["/ip4/127.0.0.1/tcp/5054/http"],
        "Protocols": [GATEWAY],
    }
    assert Provider(HERE.id, Address("::1", 5054)).multiaddr == "/ip6/::1/tcp/5054/http"


@pytest.mark.parametrize(
    ("addrs", "protocols", "usable"),
    [
        ("", "", True),
        ("", "transport-bitswap,transport-ipfs-gateway-http,unknown", True),
        ("", "Transport-IPFS-Gateway-HTTP", True),
        ("", "transport-bitswap", False),
        ("", "unknown", False),
        ("http", "", True),
        ("TCP", "", True),
        ("tls,webrtc-direct", "", False),
        ("unknown", "", False),
        ("!ip6,!quic-v1", "", True),
        ("!http", "", False),
        ("!ip6,tls", "", False),
        ("tls,http", "", True),
        ("!tcp,http", "", False),
        (",,", ",", True),
        ("http", "transport-bitswap", False),
    ],
)
def test_what_a_client_cannot_use_is_left_out(addrs: str, protocols: str, usable: bool) -> None:
    filters = Filters.parse({"filter-addrs": addrs, "filter-protocols": protocols})
    assert (HERE.record(filters) is not None) == usable
