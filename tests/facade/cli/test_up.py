"""A node as a process: what it says, how it starts, and how it stops."""

import contextlib
import http.client
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.facade.cli.started import LIMIT_S, Started, run, started


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


@pytest.mark.parametrize("listener", ["facade", "docker-mirror", "mesh", "admin"])
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
