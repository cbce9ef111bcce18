"""What a Kubo says of itself, and how it refuses: the real one is held to it, and the fake of the wire tests.

Join with the fixtures `daemon`, `corrupt` (which changes the bytes of a block that it has), `guarded` (one daemon as a
stranger and as its owner ask it) and `full` (one whose disk has no room for `DATA`).
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from node.cid import Cid
from tests.contracts.kubos import DAG, DATA, HANGS_S, Daemon
from tests.node.contents import MIB

LOGIN = "bearer:a-token"
SMALL = b"a small file"
ROOT = DAG.interior[-1]


async def get_block(daemon: Daemon, cid: Cid, **options: str) -> tuple[int, str, bytes]:
    """Status, type and bytes that its RPC gives of a block."""
    url = (daemon.rpc / "api/v0/block/get").with_query(arg=str(cid), **options)
    async with daemon.session.post(url) as answer:
        return answer.status, answer.content_type, await answer.read()


async def document(daemon: Daemon, command: str, **options: str) -> Any:
    """What a command answers."""
    status, kind, text = await daemon.ask(command, **options)
    assert (status, kind) == (200, "application/json"), text
    return json.loads(text)


class KuboAnswers:
    """The suite."""

    async def test_it_says_its_version(self, daemon: Daemon) -> None:
        said = await document(daemon, "version")
        assert [int(part) for part in said["Version"].split(".")[:2]] >= [0, 40]
        assert isinstance(said["Repo"], str) and isinstance(said["Commit"], str)

    async def test_it_says_who_it_is_and_where(self, daemon: Daemon) -> None:
        said = await document(daemon, "id")
        assert said["ID"].startswith("12D3KooW")
        assert said["Addresses"] and all(each.endswith(f"/p2p/{said['ID']}") for each in said["Addresses"])

    async def test_it_says_where_its_gateway_listens(self, daemon: Daemon) -> None:
        said = await document(daemon, "config", arg="Addresses.Gateway")
        assert said == {"Key": "Addresses.Gateway", "Value": f"/ip4/127.0.0.1/tcp/{daemon.gateway.port}"}
        assert "Addresses.Nothing not found" in await daemon.refusal("config", arg="Addresses.Nothing")

    async def test_blocks_are_given_as_they_are(self, daemon: Daemon) -> None:
        await daemon.add(DATA)
        for cid, data in (ROOT, (DAG.leaf(1).cid, DATA[MIB : 2 * MIB])):
            assert await get_block(daemon, cid) == (200, "application/vnd.ipld.raw", data)
        assert (await document(daemon, "block/stat", arg=str(ROOT[0]))) == {"Key": str(ROOT[0]), "Size": len(ROOT[1])}

    async def test_a_block_that_nobody_has_is_looked_for_without_an_end(self, daemon: Daemon) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HANGS_S):
                await get_block(daemon, DAG.root)
        status, _, body = await get_block(daemon, DAG.root, offline="true")
        assert (status, b"not found locally" in body) == (500, True)

    async def test_a_file_that_is_all_here_is_said_to_be(self, daemon: Daemon) -> None:
        await daemon.add(DATA)
        said = await document(daemon, "files/stat", arg=f"/ipfs/{DAG.root}", with_local="true", offline="true")
        assert (said["Hash"], said["Size"], said["Type"], said["Local"]) == (str(DAG.root), len(DATA), "file", True)

    async def test_wrong_bytes_are_answered_200(self, daemon: Daemon, corrupt: Callable[[Cid], None]) -> None:
        await daemon.add(DATA)
        leaf = DAG.leaf(1)
        corrupt(leaf.cid)
        url = daemon.gateway / "ipfs" / str(leaf.cid)
        async with daemon.session.get(url.with_query(format="raw")) as answer:
            assert (answer.status, await answer.read() != DATA[MIB : 2 * MIB]) == (200, True)
        status, came, _ = await daemon.read(DAG.root, Range=f"bytes={MIB}-{MIB + 99}")
        assert (status, len(came), came != DATA[MIB : MIB + 100]) == (206, 100, True)
        assert (await get_block(daemon, leaf.cid))[0] == 200

    async def test_who_shows_no_login_is_refused(self, guarded: tuple[Daemon, Daemon]) -> None:
        stranger, owner = guarded
        for command in ("version", "id", "add", "no/such/command"):
            status, kind, text = await stranger.ask(command)
            assert (status, kind) == (403, "text/plain"), command
            assert "Access Denied" in text
        assert (await document(owner, "id"))["ID"]
        assert await owner.add(SMALL)

    async def test_a_full_disk_is_said_at_the_end_of_what_is_added(self, full: Daemon) -> None:
        with pytest.raises(AssertionError, match="no space left on device"):
            await full.add(DATA)
        assert "is not pinned" in await full.refusal("pin/ls", arg=str(DAG.root), type="recursive", names="true")
        assert await full.add(DATA, only_hash="true", pin="false") == str(DAG.root)


def showing(authorization: str | None) -> aiohttp.ClientSession:
    """A session that shows a login."""
    return aiohttp.ClientSession(headers={"Authorization": authorization} if authorization else {})
