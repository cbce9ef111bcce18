"""`layermesh ipfs`."""

import json
from pathlib import Path

import pytest

from cluster.swarm_key import swarm_key
from facade.cli.commands import run


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("sixteen bytes ok\n")
    path.chmod(0o600)
    return path


def test_every_member_prints_the_same_swarm_key(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ipfs", "swarm-key", "--secret-file", str(secret)]) == 0
    head, encoding, key, rest = capsys.readouterr().out.split("\n")
    assert (head, encoding, rest) == ("/key/swarm/psk/1.0.0/", "/base16/", "")
    assert len(bytes.fromhex(key)) == 32
    assert run(["ipfs", "swarm-key", "--secret-file", str(secret), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["swarm_key"].splitlines() == [head, encoding, key]


def test_another_secret_has_another_swarm_key() -> None:
    assert swarm_key(b"one secret of many") != swarm_key(b"another secret of many")


def test_without_a_secret_there_is_no_swarm_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ipfs", "swarm-key"]) == 2
    assert "--secret-file FILE" in capsys.readouterr().err
