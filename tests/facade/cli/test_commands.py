"""The command line as people meet it: one line for each mistake, tables and JSON for answers."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from facade.cli.commands import NAMES, run
from facade.cli.version import installed
from node.cid import Cid
from node.manifest import OCI_INDEX

STATUS = {
    "name": "here",
    "id": "0" * 32,
    "version": "1",
    "ready": True,
    "reason": None,
    "uptime_s": 90.0,
    "data": "/data",
    "listeners": {"facade": "127.0.0.1:5050"},
    "blobs": 2,
    "store_bytes": 2048,
    "disk_free_bytes": 1 << 30,
    "peers": {"candidate": 0, "alive": 2, "suspect": 0, "gone": 0},
    "served_bytes": {"local": 1024, "peer": 0},
    "fetched_bytes": {},
    "upstreams": [
        {
            "namespace": "a.b",
            "endpoint": "https://a.b/",
            "public": True,
            "access": "refuse",
            "available": True,
            "endpoints": [
                {"url": "https://a.b/", "breaker": "open"},
                {"url": "https://mirror.b/", "breaker": "half-open"},
            ],
        }
    ],
    "gateways": [{"url": "http://gw.test:8080", "set_aside": None, "received_bytes": 3072}],
    "ipfs": {
        "network": "kubo",
        "state": "in step",
        "usable": True,
        "url": "http://127.0.0.1:5001",
        "version": "0.43.0",
        "peer_id": "12D3KooW",
        "gateway": "http://127.0.0.1:8080",
        "offered": 2,
        "withdrawn": 0,
        "in_step": True,
    },
    "warnings": ["eth9: no multicast"],
}
KUBO = "kubo 0.43.0 at http://127.0.0.1:5001: in step, 2 blobs published"
PEER = {
    "id": "1" * 32,
    "name": "left\x1b[31m",
    "url": "http://left.test:5051",
    "state": "alive",
    "member": True,
    "last_seen": 1.0,
    "blobs": 3,
    "set_aside": "stalled",
    "note": None,
    "received_bytes": 10,
    "sent_bytes": 0,
}
HOLDER = {"name": "left", "id": "1" * 32, "url": "http://left.test:5051", "member": True}
BLOB = {
    "digest": "sha256:" + "0" * 64,
    "role": "layer",
    "media_type": "x",
    "size": 2048,
    "here": False,
    "cid": "bafkqaaa",
    "visibility": None,
    "peers": [HOLDER],
    "repositories": ["docker.io/library/app"],
}
INDEX = BLOB | {
    "role": "manifest",
    "media_type": OCI_INDEX,
    "here": True,
    "cid": str(Cid.of(b"an index")),
    "visibility": "public",
}
WHERE = {
    "asked": "app:1",
    "digest": "sha256:" + "0" * 64,
    "seen_at": 1.0,
    "seen_by": "left",
    "here": False,
    "peers": [HOLDER],
    "blobs": [BLOB],
}


class Node(BaseHTTPRequestHandler):
    """An admin listener with fixed answers."""

    answers: ClassVar[dict[str, tuple[int, Any]]] = {
        "/api/status": (200, STATUS),
        "/api/peers": (200, {"peers": [PEER]}),
        "/api/where?ref=app%3A1": (200, WHERE),
        f"/api/where?ref=sha256%3A{'0' * 64}": (
            200,
            WHERE | {"asked": WHERE["digest"], "seen_at": None, "blobs": [INDEX]},
        ),
        "/api/where?ref=other": (404, {"error": "other: neither here nor\nthere"}),
        "/api/where?ref=another": (400, {"error": "no name"}),
    }

    def do_GET(self) -> None:
        status, answer = self.answers[self.path]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def admin() -> Iterator[str]:
    """The address of such a node."""
    with HTTPServer(("127.0.0.1", 0), Node) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the test counts."""
    for variable in [name for name in os.environ if name.startswith("LAYERMESH_")]:
        monkeypatch.delenv(variable)


Output = pytest.CaptureFixture[str]


def test_version_names_the_program(capsys: Output) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith("layermesh ")
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"layermesh {installed()}\n"
    assert run(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version", "python"}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str, capsys: Output) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: layermesh {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versoin"], "no such command 'versoin'; did you mean version?"),
        (["status", "--josn"], "No such option '--josn'. Did you mean '--json'?"),
        (["where"], "Missing argument 'REF|DIGEST'."),
        (["status", "--admin", "here"], "--admin = 'here': HOST:PORT is expected"),
        (["status", "--admin", "off"], "--admin = 'off': HOST:PORT is expected, without http:// and"),
        (["where", "sha256:12"], "digest 'sha256:12': the hash is not lower-case hex of sha256's length"),
        (["where", "bafkrei" + "a" * 52], "bafkreiaaaaaa"),
        (["where", "UPPER"], "repository name 'library/UPPER': lower-case words"),
        (["up", "--facade", "x"], "--facade = 'x': HOST:PORT is expected"),
        (["up", "--quota", "1G"], "No such option '--quota'."),
        (["up", "--config", "/nowhere/layermesh.toml"], "/nowhere/layermesh.toml: the configuration file cannot be"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(arguments: list[str], message: str, capsys: Output) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"layermesh: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["peers"], ["where", "app:1"]])
def test_without_a_node_it_is_said_what_to_do(command: list[str], capsys: Output) -> None:
    assert run([*command, "--admin", "127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("layermesh: no node answers at 127.0.0.1:1 (connection refused): start one with")
    assert error.count("\n") == 1


def test_the_environment_and_the_file_name_the_node(
    admin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    file = tmp_path / "layermesh.toml"
    file.write_text(f'[admin]\nlisten = "{admin}"')
    assert run(["peers", "--config", str(file)]) == 0
    monkeypatch.setenv("LAYERMESH_ADMIN_LISTEN", admin)
    assert run(["peers"]) == 0


def test_status_is_short_and_says_what_is_wrong(admin: str, capsys: Output) -> None:
    assert run(["status", "--admin", admin]) == 0
    out = capsys.readouterr().out
    for text in (
        "ready",
        "2 min",
        "2 blobs, 2.0 KiB; 1.0 GiB free",
        "1.0 KiB local",
        "2 alive",
        "eth9: no multicast",
        KUBO,
    ):
        assert text in out
    assert "http://gw.test:8080, 3.0 KiB from it" in out
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["UPSTREAM", "ENDPOINT", "PUBLIC", "ACCESS", "BREAKER"],
        ["a.b", "https://a.b/", "yes", "refuse", "open"],
        ["a.b", "https://mirror.b/", "yes", "refuse", "half-open"],
    ]


def test_peers_shows_them_without_their_tricks(admin: str, capsys: Output) -> None:
    assert run(["peers", "--admin", admin]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "stalled" in out


def test_where_shows_each_blob(admin: str, capsys: Output) -> None:
    assert run(["where", "--admin", admin, "app:1"]) == 0
    out = capsys.readouterr().out
    assert "by left" in out
    assert "all of it is with: left" in out
    assert "layer, 2.0 KiB; with: left" in out


def test_where_leaves_digests_and_cids_whole_on_a_narrow_terminal(
    admin: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["where", "--admin", admin, "sha256:" + "0" * 64]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert [f"  {INDEX['digest']}", f"  {INDEX['cid']}", "  docker.io/library/app"] == lines[-3:]
    assert lines[:3] == ["all of it is with: left", "", "index, 2.0 KiB, public; with: this node, left"]


@pytest.mark.parametrize(
    ("command", "answer"), [(["status"], STATUS), (["peers"], {"peers": [PEER]}), (["where", "app:1"], WHERE)]
)
def test_json_is_the_nodes_own_answer(admin: str, command: list[str], answer: object, capsys: Output) -> None:
    assert run([*command, "--json", "--admin", admin]) == 0
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize(
    ("asked", "status", "message"), [("other", 1, "other: neither here nor there"), ("another", 2, "no name")]
)
def test_a_refusal_of_the_node_is_one_line(admin: str, asked: str, status: int, message: str, capsys: Output) -> None:
    assert run(["where", "--admin", admin, asked]) == status
    assert capsys.readouterr().err == f"layermesh: {message}\n"
