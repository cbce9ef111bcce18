"""How long a command waits for the node that it asks."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from facade.cli import asking
from facade.cli.asking import fetched
from facade.registry.near import BRING_S
from facade.settings import Address
from node.errors import UnreachableError
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
