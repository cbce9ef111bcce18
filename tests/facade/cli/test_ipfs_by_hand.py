"""`layermesh ipfs status|add|cat|ls|pin|unpin` with a running node, and the Kubo that it may have."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.cid import Cid, Codec
from node.dagpb import DirEntry, directory_block
from node.digest import Digest
from node.unixfs import LEAF_BYTES
from tests.facade.cli.beside import beside
from tests.facade.cli.started import Started, environment, run, started
from tests.fakes.kubo import FakeKubo
from tests.fakes.peer import dag_of
from tests.kubo.daemon import built_kubo, kubo_environment, running_kubo
from tests.node.contents import MIB, content

DATA = content(3 * MIB + 11, "by hand")
ROOT = str(dag_of(DATA).root)
ABSENT = str(Cid.of(b"nowhere"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A node on the embedded network, the same for all tests that ask nothing else of it."""
    home = tmp_path_factory.mktemp("embedded")
    with started(home, home / "data") as one:
        yield one


@pytest.fixture
def kubo() -> Iterator[FakeKubo]:
    with beside(FakeKubo()) as fake:
        yield fake


@pytest.fixture
def with_kubo(tmp_path: Path, kubo: FakeKubo) -> Iterator[Started]:
    with started(tmp_path, tmp_path / "data", "--ipfs", f"kubo={kubo.rpc}") as one:
        yield one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def cat(node: Started, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """What `cat` prints, byte for byte."""
    program = [sys.executable, "-c", "from facade.cli import main; main()"]
    command = [*program, "ipfs", "cat", "--admin", node.address("admin"), *arguments]
    return subprocess.run(
        command, env=environment(node.home), cwd=node.home, capture_output=True, timeout=30, check=False
    )


def ipfs(node: Started, *command: str) -> "subprocess.CompletedProcess[str]":
    """What a command prints for people."""
    return run("ipfs", *command, "--admin", node.address("admin"), home=node.home)


def listed(node: Started) -> dict[str, Any]:
    """What `ls` lists, by CID."""
    return {each["cid"]: each for each in node.ask("ipfs", "ls")["files"]}


def test_a_file_is_added_listed_and_printed_again(node: Started, file: Path) -> None:
    done = ipfs(node, "add", str(file))
    assert (done.returncode, done.stdout.split()) == (0, [str(Digest.of(DATA)), ROOT])
    assert "3.0 MiB, members" in done.stderr
    assert listed(node)[ROOT] == {
        "cid": ROOT,
        "digest": str(Digest.of(DATA)),
        "size": len(DATA),
        "visibility": "members",
        "pinned": None,
    }
    assert cat(node, ROOT).stdout == DATA
    assert "members" in ipfs(node, "ls").stdout


def test_a_part_is_printed(node: Started, file: Path) -> None:
    ipfs(node, "add", str(file))
    for part, expected in (
        (("--offset", str(MIB - 1), "--length", "3"), DATA[MIB - 1 : MIB + 2]),
        (("--offset", str(3 * MIB + 10)), DATA[-1:]),
        (("--length", "0"), b""),
        (("--offset", str(10 * MIB)), b""),
    ):
        done = cat(node, ROOT, *part)
        assert (done.returncode, done.stdout) == (0, expected), part


def test_standard_input_is_added_also_when_it_is_empty(node: Started) -> None:
    program = [sys.executable, "-c", "from facade.cli import main; main()"]
    for data in (content(MIB + 1, "piped"), b""):
        done = subprocess.run(
            [*program, "ipfs", "add", "-", "--public", "--json", "--admin", node.address("admin")],
            env=environment(node.home),
            input=data,
            capture_output=True,
            timeout=30,
            check=True,
        )
        said = json.loads(done.stdout)
        assert (said["cid"], said["visibility"], said["size"]) == (str(dag_of(data).root), "public", len(data))
        assert cat(node, said["cid"]).stdout == data


def test_a_pipe_is_added_by_its_name(node: Started, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"through a pipe",))
    writer.start()
    done = ipfs(node, "add", str(tmp_path / "pipe"))
    writer.join()
    assert done.stdout.split() == [str(Digest.of(b"through a pipe")), str(Cid.of(b"through a pipe"))]


def test_bytes_come_in_base64_where_json_is_asked_for(node: Started, file: Path) -> None:
    ipfs(node, "add", str(file))
    said = node.ask("ipfs", "cat", ROOT, "--offset", "5")
    assert (base64.b64decode(said["base64"]), said["offset"], said["bytes"]) == (DATA[5:], 5, len(DATA) - 5)


def test_what_is_not_to_be_had_ends_with_a_reason(node: Started, tmp_path: Path) -> None:
    for command, status, words in (
        (("cat", ABSENT), 1, "not here"),
        (("cat", "no-cid"), 2, "CID 'no-cid'"),
        (("cat", ROOT, "--offset", "-1"), 2, "-1"),
        (("ls", str(Cid.of(b"nowhere", Codec.DAG_PB))), 1, "not here"),
        (("ls", ABSENT), 2, "this is a file, not a directory"),
        (("pin", ABSENT), 1, "the embedded network fetches nothing by its CID"),
        (("pin", "no-cid"), 2, "CID 'no-cid'"),
        (("add", str(tmp_path / "missing")), 1, "No such file"),
    ):
        done = ipfs(node, *command)
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (status, 1, ""), done.stderr
        assert words in done.stderr


def test_the_embedded_network_says_how_it_is(tmp_path: Path, node: Started) -> None:
    data, before = content(MIB + 7, "public"), node.ask("ipfs", "status")
    (tmp_path / "file").write_bytes(data)
    root = node.ask("ipfs", "add", str(tmp_path / "file"), "--public")["cid"]
    said = node.ask("ipfs", "status")
    assert (said["ipfs"]["network"], said["ipfs"]["usable"]) == ("embedded", True)
    assert (said["held"], said["published"]) == (before["held"] + 1, before["published"] + 1)
    assert said["gateway"] == f"http://{node.address('mesh')}/ipfs/"
    done = ipfs(node, "status")
    assert (done.returncode, "embedded" in done.stdout) == (0, True)
    for command in ("pin", "unpin"):
        assert node.ask("ipfs", command, root) == {"cid": root}
    assert listed(node)[root]["pinned"] == "published"


def test_what_anybody_may_have_is_given_to_kubo_and_nothing_else(
    with_kubo: Started, kubo: FakeKubo, file: Path
) -> None:
    assert "not given to Kubo" in ipfs(with_kubo, "add", str(file)).stderr
    assert not kubo.pinned
    assert ipfs(with_kubo, "add", str(file), "--public").stderr.strip() == "3.0 MiB, public"
    assert [str(cid) for cid in kubo.pinned] == [ROOT]
    assert listed(with_kubo)[ROOT]["pinned"] == "published"
    said = with_kubo.ask("ipfs", "status")
    assert (said["published"], said["by_hand"], said["ipfs"]["peer_id"]) == (1, 0, kubo.peer_id)


def test_what_others_have_is_pinned_printed_and_unpinned(with_kubo: Started, kubo: FakeKubo) -> None:
    with beside(FakeKubo()) as other:
        other.keep(DATA)
        kubo.swarm.append(other)
        assert cat(with_kubo, ROOT, "--length", "9").stdout == DATA[:9]
        assert ipfs(with_kubo, "pin", ROOT).stdout == f"{ROOT} is pinned\n"
    assert listed(with_kubo)[ROOT]["pinned"] == "by hand"
    assert cat(with_kubo, f"/ipfs/{ROOT}").stdout == DATA
    assert with_kubo.ask("status")["blobs"] == 0
    assert ipfs(with_kubo, "unpin", ROOT).returncode == 0
    assert not kubo.pinned


def test_a_file_that_ends_too_early_is_no_success(with_kubo: Started, kubo: FakeKubo) -> None:
    root = kubo.keep(DATA)
    kubo.faults.wrong_leaf = kubo.leaves(root)[2]
    done = cat(with_kubo, ROOT)
    assert (done.returncode, len(done.stdout)) == (1, 2 * LEAF_BYTES), done.stderr
    assert done.stdout == DATA[: 2 * LEAF_BYTES]
    assert done.stderr.count(b"\n") == 1 and b"hash to something else" in done.stderr


def test_directories_are_listed_and_what_they_have_is_printed(with_kubo: Started, kubo: FakeKubo) -> None:
    leaf = kubo.keep(b"in a folder")
    block = directory_block([DirEntry("a b.txt", leaf, 11)])
    folder = Cid.of(block, Codec.DAG_PB)
    kubo.blocks[folder] = block
    said = with_kubo.ask("ipfs", "ls", str(folder))
    assert said["entries"] == [{"name": "a b.txt", "cid": str(leaf), "size": 11}]
    assert cat(with_kubo, f"{folder}/a b.txt").stdout == b"in a folder"
    for path, words in ((str(folder), b"is a directory"), (f"{folder}/b", b"it has no 'b'")):
        done = cat(with_kubo, path)
        assert done.returncode in (1, 2) and words in done.stderr, done.stderr
    assert "this is a file" in ipfs(with_kubo, "ls", str(leaf)).stderr


def test_a_kubo_that_is_away_is_told_of_and_what_is_here_is_kept_all_the_same(tmp_path: Path, file: Path) -> None:
    with started(tmp_path, tmp_path / "data", "--ipfs", "kubo=http://127.0.0.1:1") as node:
        done = ipfs(node, "status")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "is away: connection refused" in done.stderr and "is away" in done.stdout
        assert "not published yet: " in ipfs(node, "add", str(file), "--public").stderr
        assert cat(node, ROOT).stdout == DATA
        done = ipfs(node, "ls")
        assert done.returncode == 0 and ROOT in done.stdout and "what is pinned cannot be told" in done.stderr
        for command in ("pin", "unpin"):
            assert ipfs(node, command, ABSENT).returncode == 1


@pytest.mark.parametrize("client", ["kubo", "ipfshttpclient"])
def test_a_real_kubo_is_looked_at_by_hand(tmp_path: Path, file: Path, client: str) -> None:
    with (
        running_kubo(tmp_path / "one") as one,
        running_kubo(tmp_path / "two") as two,
        started(tmp_path, tmp_path / "data", "--ipfs", f"{client}={one.rpc}") as node,
    ):
        one.meet(two)
        said = node.ask("ipfs", "status")
        assert (said["ipfs"]["network"], said["ipfs"]["peer_id"]) == (client, one.peer_id)
        assert node.ask("ipfs", "add", str(file), "--public")["note"] is None
        assert ROOT in one.call("pin/ls", ROOT)["Keys"]
        theirs = content(2 * MIB, "theirs")
        (tmp_path / "theirs").write_bytes(theirs)
        add = [built_kubo(), "add", "--quieter", str(tmp_path / "theirs")]
        cid = subprocess.run(
            add, env=kubo_environment(two.repo), capture_output=True, text=True, timeout=30, check=True
        ).stdout.strip()
        assert ipfs(node, "pin", cid).returncode == 0
        assert cat(node, cid, "--offset", "7").stdout == theirs[7:]
        assert listed(node)[cid]["pinned"] == "by hand"
        assert ipfs(node, "unpin", cid).returncode == 0
        assert two.ask("pin/ls", cid)[0] == 200
        assert one.ask("pin/ls", cid)[0] == 500


def test_without_a_node_there_is_one_line(tmp_path: Path) -> None:
    for command in (("status",), ("ls",), ("pin", ABSENT), ("cat", ABSENT)):
        done = run("ipfs", *command, "--admin", "127.0.0.1:1", home=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "no node answers" in done.stderr


def test_what_is_wrong_with_a_kubo_that_works_is_shown(with_kubo: Started, kubo: FakeKubo, file: Path) -> None:
    kubo.faults.full = True
    with_kubo.ask("ipfs", "add", "--public", str(file))
    assert "Kubo's disk is full" in with_kubo.ask("ipfs", "status")["warnings"][0]
    shown = run("ipfs", "status", "--admin", with_kubo.address("admin"), home=with_kubo.home)
    assert shown.returncode == 0
    assert "warning         ipfs: Kubo's disk is full" in shown.stdout
