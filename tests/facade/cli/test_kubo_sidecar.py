"""`layermesh up --kubo-sidecar`, and a real Kubo without peers that was told what `layermesh ipfs config` prints."""

import asyncio
import json
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.facade.cli.started import LIMIT_S, Started, run, started
from tests.fakes.images import make_image
from tests.fakes.peer import dag_of
from tests.fakes.registry import FakeRegistry
from tests.kubo.daemon import Kubo, running_kubo
from tests.node.contents import MIB, content

HERE = content(3 * MIB + 5, "on the node")
THERE = content(5 * MIB + 7, "on a peer alone")
READ = content(2 * MIB + 3, "on a peer, and read at once")
MEMBERS = content(2 * MIB + 1, "for members")
PRIVATE = make_image("private", (1_500_000,))


def added(node: Started, data: bytes, *flags: str) -> str:
    """Keep a file by hand; its CID."""
    (node.home / "file").write_bytes(data)
    cid = str(node.ask("ipfs", "add", "file", *flags)["cid"])
    assert cid == str(dag_of(data).root)
    return cid


def known_to_be_with_a_peer(node: Started, digest: str) -> None:
    """Wait until the node has heard of it."""
    deadline = time.monotonic() + LIMIT_S
    while not node.ask("where", digest)["blobs"][0]["peers"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pinned(kubo: Kubo, cid: str, timeout: str = "15s") -> bool:
    """Have it pinned, and again where a busy machine made it stand still."""
    return any(kubo.ask("pin/add", cid, timeout=timeout)[0] == 200 for _ in range(4))


def fetch_all(home: Path, registry: str) -> None:
    upstream = ("--upstream", f"corp.test={registry}")
    with ExitStack() as running:
        there = running.enter_context(started(home, home / "there"))
        joins = ("--join", f"http://{there.address('mesh')}", "--kubo-sidecar", "127.0.0.1:0")
        here = running.enter_context(started(home, home / "here", *joins, *upstream))
        sidecar = ("--kubo-sidecar", here.address("kubo-sidecar"))
        settings = json.loads(run("ipfs", "config", "fetch", "--json", *sidecar, home=home).stdout)
        kubo = running.enter_context(running_kubo(home / "ipfs", settings=settings))
        theirs = there.ask("ipfs", "add", str(write(home / "theirs", THERE)), "--public")
        known_to_be_with_a_peer(here, theirs["digest"])
        for cid, data in ((added(here, HERE, "--public"), HERE), (theirs["cid"], THERE)):
            assert pinned(kubo, cid)
            assert kubo.ask("cat", cid, offline="true") == (200, data)
        read = there.ask("ipfs", "add", str(write(home / "read", READ)), "--public")
        known_to_be_with_a_peer(here, read["digest"])
        answers = (kubo.ask("cat", read["cid"], timeout="15s") for _ in range(4))
        assert next(data for status, data in answers if status == 200 and len(data) == len(READ)) == READ
        assert_hidden_is_not_given(here, kubo)
        assert kubo.call("swarm/peers")["Peers"] is None
        assert here.ask("where", theirs["digest"])["blobs"][0]["cid"] == theirs["cid"]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def assert_hidden_is_not_given(node: Started, kubo: Kubo) -> None:
    """Neither what is for members, nor what came from a registry that did not say that anybody may have it."""
    facade = f"http://{node.address('facade')}/v2/corp.test/team/app"
    with urllib.request.urlopen(f"{facade}/manifests/v1", timeout=20) as answer:
        answer.read()
    layer = PRIVATE.layers[0]
    with urllib.request.urlopen(f"{facade}/blobs/{layer.digest}", timeout=20) as answer:
        assert answer.read() == layer.data
    root = str(dag_of(layer.data).root)
    for cid in (added(node, MEMBERS), root):
        assert kubo.ask("pin/add", cid, timeout="600ms")[0] == 500
    held = {each["cid"]: each["visibility"] for each in node.ask("ipfs", "ls")["files"]}
    assert held[root] == "private"
    kept = kubo.ask("refs/local")[1].decode()
    assert not [leaf for data in (MEMBERS, layer.data) for leaf in (str(dag_of(data).leaf(0).cid),) if leaf in kept]


async def test_kubo_gets_what_the_node_and_its_peer_have_and_nothing_that_is_hidden(tmp_path: Path) -> None:
    async with FakeRegistry() as registry:
        registry.push("team/app", PRIVATE, "v1")
        await asyncio.to_thread(fetch_all, tmp_path, registry.url)
