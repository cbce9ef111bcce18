"""A node as a process: what it says, how it starts, and how it stops."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.facade.cli.started import LIMIT_S, Started, run, started
from tests.fakes.certificates import trusting, write_certificate


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A node with an empty store, which these tests only ask."""
    home = tmp_path_factory.mktemp("node")
    with started(home, home / "data") as node:
        yield node


def get(address: str, path: str) -> tuple[int, bytes]:
    """One GET."""
    connection = http.client.HTTPConnection(address, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_node_says_where_it_is_and_answers_there(node: Started) -> None:
    assert node.printed.startswith("layermesh ")
    assert f"--join http://{node.address('mesh')} " in node.printed
    assert get(node.address("facade"), "/v2/")[0] == 200
    assert get(node.address("docker-mirror"), "/v2/")[0] == 200
    assert get(node.address("mesh"), "/ipfs/bafkqaaa") == (200, b"")
    assert get(node.address("admin"), "/readyz")[0] == 200


def test_a_running_node_answers_its_commands(node: Started) -> None:
    status = node.ask("status")
    assert (status["name"], status["ready"], status["blobs"], status["peers"]["alive"]) == ("tested", True, 0, 0)
    assert status["listeners"]["facade"] == node.address("facade")
    assert status["upstreams"][0]["namespace"] == "docker.io"
    assert node.ask("peers") == {"peers": []}


def test_metrics_of_every_listener_are_counted(node: Started) -> None:
    get(node.address("facade"), "/v2/")
    get(node.address("mesh"), "/ipfs/bafkqaaa")
    text = get(node.address("admin"), "/metrics")[1].decode()
    for listener in ("facade", "mesh"):
        assert f'http_server_requests_total{{code="200",listener="{listener}",method="GET"}}' in text
    assert 'layermesh_served_bytes_total{source="flight"} 0.0' in text


@pytest.mark.parametrize("listener", ["facade", "docker-mirror", "admin"])
def test_a_foreign_page_is_refused(node: Started, listener: str) -> None:
    connection = http.client.HTTPConnection(node.address(listener), timeout=LIMIT_S)
    connection.request("GET", "/v2/", headers={"Host": "evil.test"})
    with connection.getresponse() as response:
        assert response.status == 403
        assert "evil.test" in str(json.loads(response.read()))
    connection.close()


@pytest.mark.parametrize("listener", ["facade", "docker-mirror"])
@pytest.mark.parametrize("path", ["/", "/v1/_ping", "/v2x"])
def test_beside_the_registry_nothing_is_served_and_that_is_said(node: Started, listener: str, path: str) -> None:
    status, body = get(node.address(listener), path)
    assert (status, json.loads(body)["errors"][0]["code"]) == (404, "UNSUPPORTED")


def test_the_kubo_sidecar_is_served_where_it_was_wanted(tmp_path: Path) -> None:
    with started(tmp_path, tmp_path / "data", "--kubo-sidecar", "127.0.0.1:0") as node:
        address = node.address("kubo-sidecar")
        assert node.ask("status")["listeners"]["kubo-sidecar"] == address
        assert get(address, "/ipfs/bafkqaaa") == (200, b"")
        absent = "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"
        assert get(address, f"/routing/v1/providers/{absent}") == (200, b'{"Providers":[]}')
        metrics = get(node.address("admin"), "/metrics")[1].decode()
        assert 'http_server_requests_total{code="200",listener="kubo-sidecar",method="GET"}' in metrics


def test_without_being_wanted_there_is_no_kubo_sidecar(node: Started) -> None:
    assert "kubo-sidecar" not in node.ask("status")["listeners"]


@pytest.mark.parametrize("address", ["0.0.0.0:0", "10.0.0.7:0", "node.example:0"])
def test_the_kubo_sidecar_stays_on_loopback_whoever_insists(tmp_path: Path, address: str) -> None:
    for more in ((), ("--insecure",)):
        line = refused(tmp_path, "--kubo-sidecar", address, *more)
        assert f"--kubo-sidecar {address} would be open to other machines" in line
        assert "choose a loopback address, such as 127.0.0.1:5054" in line


def send(address: str, garbage: bytes) -> None:
    """Send, and read until the other side closes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as client:
        client.sendall(garbage + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass


def test_it_ends_cleanly_whatever_clients_sent(tmp_path: Path) -> None:
    garbage = (b"\x16\x03\x01\x02\x00\x01", b"GET /\xff HTTP/1.1", b"GET / HTTP/9", b"A" * 20_000)
    with started(tmp_path, tmp_path / "data") as node:
        for listener in ("facade", "docker-mirror", "mesh", "admin"):
            for data in garbage:
                send(node.address(listener), data)
        node.stop()
        status, logged = node.ended()
    assert status == 0
    assert "stopped" in logged.splitlines()[-1]
    assert "Traceback" not in logged
    assert not list((tmp_path / "data" / "incoming").iterdir())


def refused(tmp_path: Path, *flags: str) -> str:
    """The one line that `up` ends with."""
    listeners = ["--facade", "127.0.0.1:0", "--docker-mirror", "off", "--admin", "127.0.0.1:0", "--mesh", "127.0.0.1:0"]
    done = run("up", "--no-mdns", "--data", str(tmp_path / "data"), *listeners, *flags, home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("listener", ["facade", "docker-mirror", "mesh", "admin", "kubo-sidecar"])
def test_a_port_in_use_is_one_line_that_names_the_flag(node: Started, tmp_path: Path, listener: str) -> None:
    line = refused(tmp_path, f"--{listener}", node.address("facade"))
    assert f"the port is in use (`ss -ltnp 'sport = :{node.address('facade').rpartition(':')[2]}'`" in line
    assert f"--{listener} HOST:PORT changes it" in line


def test_a_data_folder_in_use_is_one_line(node: Started, tmp_path: Path) -> None:
    assert str(node.process.pid) in refused(tmp_path, "--data", str(node.home / "data"))


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(tmp_path, "--data", str(tmp_path / "file" / "data"))


def test_a_secret_that_everybody_can_read_is_one_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x" * 40)
    secret.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert "chmod 600" in refused(tmp_path, "--secret-file", str(secret))


def test_a_listener_for_everybody_is_one_line(tmp_path: Path) -> None:
    assert "--insecure" in refused(tmp_path, "--facade", "0.0.0.0:0")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Started]:
    """A node with one user, `alice`, and a certificate."""
    files = write_certificate(tmp_path)
    write_users(tmp_path, alice="wonder")
    (tmp_path / "layermesh.toml").write_text(
        f'[facade]\nhtpasswd = "{tmp_path}/htpasswd"\ntls_cert = "{files.certificate}"\ntls_key = "{files.key}"'
    )
    with started(tmp_path, tmp_path / "data", "--config", str(tmp_path / "layermesh.toml")) as node:
        yield node


def write_users(folder: Path, **passwords: str) -> None:
    """The file of the users."""
    stored = {name: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)) for name, password in passwords.items()}
    (folder / "htpasswd").write_text("".join(f"{name}:{each.decode()}\n" for name, each in stored.items()))


def get_as(address: str, login: str, path: str = "/v2/", context: ssl.SSLContext | None = None) -> int:
    """The status of one GET over TLS, with a login."""
    connection = http.client.HTTPSConnection(address, timeout=LIMIT_S, context=context or trusting())
    encoded = base64.b64encode(login.encode()).decode()
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {encoded}"} if login else {})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("listener", ["facade", "docker-mirror"])
def test_with_users_and_a_certificate_both_registry_listeners_ask_for_a_login_over_tls(
    guarded: Started, listener: str
) -> None:
    address = guarded.address(listener)
    assert [get_as(address, login) for login in ("", "alice:wrong", "alice:wonder")] == [401, 401, 200]
    assert f"https://{address}" in guarded.printed
    assert f"docker login {guarded.address('facade')}\n" in guarded.printed
    assert guarded.ask("status")["ready"]


def test_users_and_certificates_that_change_count_without_a_restart(guarded: Started) -> None:
    address, deadline = guarded.address("facade"), time.monotonic() + LIMIT_S
    write_users(guarded.home, bob="builder")
    while (statuses := [get_as(address, login) for login in ("alice:wonder", "bob:builder")]) != [401, 200]:
        assert time.monotonic() < deadline, statuses
        time.sleep(0.1)
    (guarded.home / "htpasswd").write_text("bob")
    write_certificate(guarded.home, "127.0.0.1", "other.test")
    while not shows(address, "other.test"):
        assert time.monotonic() < deadline, "the certificate is still the first one"
        time.sleep(0.1)
    guarded.stop()
    status, logged = guarded.ended()
    assert status == 0 and "Traceback" not in logged
    assert "line 1: NAME:HASH is expected" in logged


def shows(address: str, name: str) -> bool:
    """Whether the certificate there holds this name."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=LIMIT_S) as plain,
        trusting().wrap_socket(plain, server_hostname=host) as client,
    ):
        return name in str(client.getpeercert())


def test_a_node_behind_tls_stops_at_once_and_cleanly(guarded: Started) -> None:
    host, _, port = guarded.address("facade").rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=LIMIT_S) as plain,
        trusting().wrap_socket(plain, server_hostname=host) as client,
    ):
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 401"
        send(guarded.address("facade"), b"GET / HTTP/1.1")
        began = time.monotonic()
        guarded.stop()
        status, logged = guarded.ended()
    assert (status, time.monotonic() - began < 5) == (0, True)
    assert "Traceback" not in logged and "wonder" not in logged


def test_a_certificate_that_is_missing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "layermesh.toml").write_text('[facade]\ntls_cert = "none"\ntls_key = "none"')
    assert "tls_cert none: it cannot be read" in refused(tmp_path, "--config", str(tmp_path / "layermesh.toml"))
