"""What the parts are told, and what is refused before anything starts."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from yarl import URL

from facade.cli.config import load
from facade.cli.wiring import Wiring, read_authority, read_credentials, read_kubo_login, read_secret, wire
from facade.settings import FacadeSettings
from facade.upstream.config import BUILT_IN, Access, Share, UpstreamConfig
from facade.upstream.tags import Rule, TagPolicy
from node.errors import InvalidError, LayermeshError, StartError
from node.ipfs.kubo.endpoint import Client
from node.reference import Tag


def wired(**flags: object) -> Wiring:
    """What a node is told by these flags alone."""
    return wire(load(flags, {}), {"HOME": "/home/me"}, root=False)


def upstream(wiring: Wiring, namespace: str) -> UpstreamConfig:
    """One of its registries."""
    return next(config for config in wiring.facade.upstreams if config.namespace == namespace)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A secret file as it should be."""
    path = tmp_path / "secret"
    path.write_bytes(b"  sixteen bytes ok\n")
    path.chmod(0o600)
    return path


def test_without_flags_the_parts_get_their_own_defaults() -> None:
    wiring = wired()
    assert wiring.facade == FacadeSettings()
    assert wiring.data == Path("/home/me/.local/state/layermesh")
    assert (wiring.mesh.host, wiring.mesh.port, wiring.cluster.secret) == ("0.0.0.0", 5051, None)


def test_the_cluster_is_told_all_that_was_written(secret: Path) -> None:
    cluster = wired(
        node_name="left",
        cluster_listen="127.0.0.1:0",
        cluster_join=("http://a.test:5051",),
        cluster_mdns=True,
        cluster_advertise="http://me.test:5051",
        cluster_secret_file=str(secret),
        cluster_open_gateway=True,
    ).cluster
    assert (cluster.name, cluster.mesh_host, cluster.mdns) == ("left", "127.0.0.1", False)
    assert (cluster.joins, cluster.advertise) == ((URL("http://a.test:5051"),), "http://me.test:5051")
    assert (cluster.secret, cluster.open_gateway) == (b"sixteen bytes ok", True)


def test_gateways_are_asked_as_they_were_written() -> None:
    assert wired().gateways == ()
    written = ("https://ipfs.test/base", "http://10.0.0.9:8080")
    assert wired(node_gateways=written).gateways == tuple(URL(url) for url in written)


@pytest.mark.parametrize("url", ["https://me:secret@ipfs.test", "https://ipfs.test/?a=b", "https://ipfs.test/#a"])
def test_a_gateway_is_an_address_and_nothing_else(url: str) -> None:
    with pytest.raises(InvalidError, match="without a login") as raised:
        wired(node_gateways=(url,))
    assert "secret" not in str(raised.value)


def test_a_built_in_registry_keeps_its_publicness_under_another_endpoint() -> None:
    config = upstream(wired(facade_upstreams=("docker.io=http://127.0.0.1:5000",)), "docker.io")
    assert (config.urls, config.public) == ((URL("http://127.0.0.1:5000/"),), True)


def test_a_registry_of_ones_own_is_not_public_unless_told() -> None:
    config = upstream(wired(facade_upstreams=("corp.test=https://registry.corp.test",)), "corp.test")
    assert (config.public, config.access) == (False, Access.REFUSE)


def test_the_file_says_more_of_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "layermesh.toml"
    file.write_text('[facade.upstreams."ghcr.io"]\npublic = false\naccess = "credentials"')
    wiring = wire(load({}, {}, file), {}, root=True)
    built_in = next(config for config in BUILT_IN if config.namespace == "ghcr.io")
    config = upstream(wiring, "ghcr.io")
    assert (config.urls, config.public, config.access) == (built_in.urls, False, Access.CREDENTIALS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[facade.upstreams."corp.test"]\npublic = true', 'upstreams."corp.test"] endpoint is missing'),
        ('[facade.upstreams."-"]\nendpoint = "http://a"', "registry namespace '-'"),
        ('[facade.upstreams."a.b"]\nendpoint = "http://u:p@h"', "credentials do not belong in the URL"),
    ],
)
def test_a_registry_that_cannot_be_reached_as_written_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "layermesh.toml"
    file.write_text(text)
    with pytest.raises(InvalidError) as caught:
        wire(load({}, {}, file), {}, root=True)
    assert message in str(caught.value)


def test_blobs_are_found_by_cid_where_there_is_a_kubo_sidecar() -> None:
    assert not wired().cluster.by_cid and wired().addresses()["kubo-sidecar"] is None
    made = wired(facade_kubo_sidecar="on")
    assert made.cluster.by_cid and str(made.addresses()["kubo-sidecar"]) == "127.0.0.1:5054"


def from_text(tmp_path: Path, text: str) -> Wiring:
    """What a node is told by a file."""
    file = tmp_path / "layermesh.toml"
    file.write_text(text)
    return wire(load({}, {}, file), {}, root=True)


SHARED = '[facade.upstreams."corp.test"]\nendpoint = "https://corp.test"\nshare = "cluster"\n'


def test_what_is_shared_goes_to_the_parts_that_share_it(tmp_path: Path, secret: Path) -> None:
    over_tls = f'[cluster]\ntls = true\nsecret_file = "{secret}"\njoin = ["https://a.test:5051"]\n'
    for access in ("credentials", "passthrough"):
        wiring = from_text(tmp_path, f'{over_tls}{SHARED}access = "{access}"')
        assert (wiring.cluster.tls, wiring.cluster.shared) == (True, frozenset({"corp.test"}))
        assert upstream(wiring, "corp.test").share is Share.CLUSTER
    assert wired(cluster_secret_file=str(secret)).cluster.shared == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cluster]\ntls = true", "[cluster] tls = true needs a secret"),
        (
            '[cluster]\ntls = true\nsecret_file = "SECRET"\njoin = ["http://a.test:5051"]',
            "[cluster] join http://a.test:5051: with [cluster] tls = true nodes are reached by https://HOST:PORT",
        ),
        (
            '[cluster]\ntls = true\nsecret_file = "SECRET"\nadvertise = "http://a.test:5051"',
            "[cluster] advertise http://a.test:5051: with",
        ),
        (f'{SHARED}access = "credentials"', 'share = "cluster" sends private content to members: it needs [cluster]'),
        (
            f'[cluster]\nsecret_file = "SECRET"\n{SHARED}access = "credentials"',
            "it needs [cluster] tls = true and secret_file",
        ),
        (
            f'[cluster]\ntls = true\nsecret_file = "SECRET"\n{SHARED}',
            'goes with access = "credentials" or "passthrough"',
        ),
    ],
)
def test_tls_and_sharing_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, secret: Path, text: str, message: str
) -> None:
    with pytest.raises(StartError) as caught:
        from_text(tmp_path, text.replace("SECRET", str(secret)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("parameter", ["facade_listen", "facade_docker_mirror", "admin_listen"])
@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "box.test:1"])
def test_a_listener_beyond_loopback_needs_insecure(parameter: str, address: str) -> None:
    with pytest.raises(StartError, match="insist with --insecure"):
        wired(**{parameter: address})
    wired(**{parameter: address}, facade_insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.1.2.3:1"])
def test_loopback_listeners_need_nothing(address: str) -> None:
    addresses = wired(facade_listen=address, facade_docker_mirror=address, admin_listen=address).addresses()
    assert {str(addresses[name]) for name in ("facade", "docker-mirror", "admin")} == {address}


def test_a_secret_is_read_without_the_space_around_it(secret: Path) -> None:
    assert read_secret(secret) == b"sixteen bytes ok"


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"fifteen bytes..", 0o600, "15 bytes are too short, at least 16"),
        (b" " * 40, 0o600, "0 bytes are too short"),
        (b"x" * 40, 0o644, "everybody on this machine can read or write it: chmod 600"),
        (b"x" * 40, 0o602, "everybody on this machine can read or write it"),
        (b"x" * 40, 0o660, "its group can write it: chmod 600"),
        (b"x" * 65537, 0o600, "it is larger than 64 KiB"),
    ],
)
def test_a_secret_that_protects_nothing_is_refused(secret: Path, content: bytes, mode: int, message: str) -> None:
    secret.write_bytes(content)
    secret.chmod(mode)
    with pytest.raises(StartError, match=message):
        read_secret(secret)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o640])
def test_a_secret_that_only_the_group_can_read_besides_is_taken(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_secret(secret) == b"sixteen bytes ok"


@pytest.mark.parametrize("read", [read_secret, read_credentials])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StartError, match="fifo: it is no regular file"):
        read(tmp_path / "fifo")
    with pytest.raises(StartError, match="it is no regular file"):
        read(Path("/dev/zero"))
    with pytest.raises(StartError, match="it cannot be read: is a directory"):
        read(tmp_path)


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="none: it cannot be read: no such file"):
        read_secret(tmp_path / "none")


def test_tags_have_the_rules_of_the_file_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "layermesh.toml"
    file.write_text('[facade.upstreams."ghcr.io".tags]\n"v*" = "pinned"\nlatest = "ttl=5m"\n"*" = "upstream"')
    config = upstream(wire(load({}, {}, file), {}, root=True), "ghcr.io")
    rules = {tag: config.tag_policy(Tag(tag)) for tag in ("v1", "latest", "main")}
    assert rules == {
        "v1": TagPolicy(Rule.PINNED),
        "latest": TagPolicy(Rule.TTL, 300),
        "main": TagPolicy(Rule.UPSTREAM),
    }


def test_an_upstream_may_have_an_authority_of_its_own(tmp_path: Path) -> None:
    file, authority = tmp_path / "layermesh.toml", trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    file.write_text(f'[facade.upstreams."ghcr.io"]\nca_file = "{tmp_path}/ca.pem"')
    (name,) = (wiring := wire(load({}, {}, file), {}, root=True)).tls
    subjects = [certificate["subject"] for certificate in wiring.tls[name].get_ca_certs()]
    assert name == "ghcr.io" and any("trustme" in str(subject) for subject in subjects)


@pytest.mark.parametrize("content", ["", "no certificate", "ü"])
def test_an_authority_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(content)
    with pytest.raises(StartError, match=r"ca\.pem: it holds no certificate in PEM form"):
        read_authority(file)
    with pytest.raises(StartError, match="none: it cannot be read"):
        read_authority(tmp_path / "none")


def test_a_credentials_file_that_is_no_docker_configuration_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(LayermeshError, match=r"config\.json"):
        wire(load({}, {"LAYERMESH_FACADE_CREDENTIALS": str(file)}), {}, root=True)


def test_a_credentials_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(StartError, match=r"config\.json: it cannot be read: no such file"):
        wire(load({}, {"LAYERMESH_FACADE_CREDENTIALS": str(file)}), {}, root=True)
    file.write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(StartError, match="it is larger than 1024 KiB"):
        read_credentials(file)


def test_a_kubo_is_known_with_its_login_and_authority(tmp_path: Path) -> None:
    login, authority = tmp_path / "login", tmp_path / "ca.pem"
    login.write_text("bearer:geheim\n")
    login.chmod(0o600)
    authority.write_bytes(trustme.CA().cert_pem.bytes())
    environment = {"LAYERMESH_IPFS_AUTH_FILE": str(login), "LAYERMESH_IPFS_CA_FILE": str(authority)}
    environment["LAYERMESH_IPFS_GATEWAY"] = "http://kubo.test:8080"
    kubo = wire(load({"node_ipfs": "kubo=https://kubo.test"}, environment), {"HOME": "/"}, root=False).kubo
    assert kubo is not None and kubo.tls is not None
    assert (kubo.url, kubo.socket, kubo.gateway) == (URL("https://kubo.test"), None, URL("http://kubo.test:8080"))
    assert kubo.authorization == "Bearer geheim"


def test_a_kubo_may_be_reached_by_a_library_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    kubo = wired(node_ipfs="ipfshttpclient=unix:///run/kubo/api.sock").kubo
    assert kubo is not None
    assert (kubo.client, kubo.socket) == (Client.IPFSHTTPCLIENT, "/run/kubo/api.sock")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"pip install 'layermesh\[ipfshttpclient\]'"):
        wired(node_ipfs="ipfshttpclient=http://127.0.0.1:5001")


def test_the_embedded_network_needs_no_kubo() -> None:
    assert wired(node_ipfs="embedded").kubo is None is wired().kubo


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"LAYERMESH_IPFS": "cubo=x"},
            "LAYERMESH_IPFS = 'cubo=x': embedded, kubo=URL or ipfshttpclient=URL is expected",
        ),
        ({"LAYERMESH_IPFS": "kubo=127.0.0.1:5001"}, "http://HOST:PORT"),
        ({"LAYERMESH_IPFS": "ipfshttpclient=a.test"}, "http://HOST:PORT"),
        (
            {"LAYERMESH_IPFS": "ipfshttpclient=http://a.test:1", "LAYERMESH_IPFS_GATEWAY": "http://a.test:2"},
            "ipfs_gateway is for --ipfs kubo=URL",
        ),
        ({"LAYERMESH_IPFS": "kubo=http://me:x@a.test:1"}, "ipfs_auth_file"),
        ({"LAYERMESH_IPFS_GATEWAY": "http://a.test:1"}, "name that with --ipfs kubo=URL"),
        ({"LAYERMESH_IPFS": "kubo=http://a.test:1", "LAYERMESH_IPFS_GATEWAY": "https://a.test"}, "http://HOST:PORT"),
        ({"LAYERMESH_IPFS": "kubo=http://a.test:1", "LAYERMESH_IPFS_AUTH_FILE": "/none"}, "login file /none: it"),
    ],
)
def test_a_kubo_that_cannot_be_used_as_written_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(LayermeshError) as caught:
        wire(load({}, environment), {"HOME": "/"}, root=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "mode"), [("bearer:geheim", 0o644), ("geheim", 0o600), ("", 0o600)])
def test_a_login_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path, text: str, mode: int) -> None:
    login = tmp_path / "login"
    login.write_text(text)
    login.chmod(mode)
    with pytest.raises(LayermeshError, match="login file") as caught:
        read_kubo_login(login)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAYERMESH_IPFS", "kubo=http://me:geheim@a.test:5001"),
        ("LAYERMESH_IPFS", "kubo=ftp://me:ge/heim@a.test"),
        ("LAYERMESH_IPFS_GATEWAY", "https://me:geheim@a.test"),
        ("LAYERMESH_GATEWAYS", "http://a.test ftp://me:geheim@b.test"),
    ],
)
def test_a_refusal_quotes_no_login(name: str, value: str) -> None:
    with pytest.raises(InvalidError) as raised:
        wire(load({}, {"LAYERMESH_IPFS": "kubo=http://a.test:5001"} | {name: value}), {"HOME": "/home/me"}, root=False)
    assert "heim" not in str(raised.value) and name.removeprefix("LAYERMESH_").lower() in str(raised.value).lower()
