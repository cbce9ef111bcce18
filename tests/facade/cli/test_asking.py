"""How long a command waits for the node that it asks."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from facade.cli import asking
from facade.cli.asking import fetched, send
from facade.registry.near import BRING_S
from facade.settings import Address
from node.errors import MismatchError, UnreachableError
from tests.facade.cli.started import run


@pytest.fixture
def silent() -> Iterator[Address]:
    """Something that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address(*listener.getsockname())


def test_whoever_asks_for_a_blob_waits_longer_than_the_node_does_for_the_members_that_have_it() -> None:
    assert asking.LONG_S > 2 * BRING_S


def test_a_node_that_says_nothing_is_given_up(silent: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONG_S", 0.2)
    with pytest.raises(UnreachableError, match="timed out"), fetched(silent, "/api/own/blob?digest=x"):
        pass


def test_a_node_that_is_not_there_ends_a_backup_and_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    done = run("backup", str(tmp_path / "own.tar"), "--admin", address, home=tmp_path)
    assert (done.returncode, "no node answers" in done.stderr) == (1, True)
    assert not list(tmp_path.glob("*own.tar*"))


@pytest.fixture
def refusing() -> Iterator[Address]:
    """A node that refuses every body before it has read it."""

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):  # who sends may give up
            connection.recv(1024)
            said = b'{"error":"no room"}'
            connection.sendall(b"HTTP/1.1 503 Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            while connection.recv(1 << 20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=refuse)
        thread.start()
        yield Address(*listener.getsockname())
        thread.join(10)


def test_why_a_body_is_refused_is_said_though_it_was_not_read(refusing: Address) -> None:
    pieces = (bytes(1 << 20) for _ in range(16))
    with pytest.raises(UnreachableError, match="no room"):
        send(refusing, "PUT", "/api/own/blob?digest=x", pieces, 16 << 20)


def test_why_a_body_could_not_be_read_here_is_what_is_said(refusing: Address) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise MismatchError("the file lies")

    with pytest.raises(MismatchError, match="the file lies"):
        send(refusing, "PUT", "/api/own/blob?digest=x", pieces(), 9)
