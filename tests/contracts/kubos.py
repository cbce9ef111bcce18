"""What a Kubo does, as far as layermesh counts on it: the real one is held to it, and the fake of the wire tests.

Join with a fixture `daemon`, and `fetching_nothing`, whose gateway looks for nothing elsewhere.
"""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from node.cid import Cid
from node.ipfs.kubo.adding import PROFILE
from tests.fakes.dag_layouts import root_of
from tests.fakes.peer import dag_of
from tests.node.contents import MIB, content

DATA = content(3 * MIB + 7, "kubo")
DAG = dag_of(DATA)
CUT = dag_of(DATA[:MIB])
HANGS_S = 0.3
NOWHERE = {"offline": "true", "type": "recursive"}
"""How it is asked about what is nowhere; commands that do not know a type ignore it."""
_HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="blob"\r\n\r\n'


@dataclass
class Daemon:
    """A daemon with nothing in it. `lose` takes a block away from it, `collect` all that is not pinned."""

    rpc: URL
    gateway: URL
    session: aiohttp.ClientSession
    lose: Callable[[Cid], None]
    collect: Callable[[], None]

    async def ask(self, command: str, *bodies: bytes, **options: str) -> tuple[int, str, str]:
        """Status, type and text of an answer; an option's `_` stands for `-`."""
        words = {name.replace("_", "-"): value for name, value in options.items()}
        url = (self.rpc / "api/v0" / command).with_query(words)
        headers = {"Content-Type": "multipart/form-data; boundary=B"} if bodies else {}
        data = io.BytesIO(b"".join(bodies)) if bodies else None
        async with self.session.post(url, data=data, headers=headers) as answer:
            return answer.status, answer.content_type, await answer.text()

    async def add(self, data: bytes, **options: str) -> str:
        """Add a file as it should be; the CID that is answered."""
        return await self.upload(_HEAD, data, b"\r\n--B--\r\n", **options)

    async def upload(self, *bodies: bytes, **options: str) -> str:
        """Add what may be no whole body."""
        status, _, text = await self.ask("add", *bodies, **{**PROFILE, "pin": "true", **options})
        assert status == 200, text
        return str(json.loads(text)["Hash"])

    async def refusal(self, command: str, **options: str) -> str:
        """The message of a command that fails."""
        status, kind, text = await self.ask(command, **options)
        assert (status, kind) == (500, "application/json"), text
        return str(json.loads(text)["Message"])

    async def pin_of(self, cid: object) -> Any:
        """The name of a pin."""
        _, _, text = await self.ask("pin/ls", arg=str(cid), type="recursive", names="true")
        return json.loads(text)["Keys"][str(cid)].get("Name", "")

    async def read(self, cid: Cid, **headers: str) -> tuple[int, bytes, bool]:
        """Status and bytes that its gateway gives of a file, and whether it then hung."""
        came = bytearray()
        async with self.session.get(self.gateway / "ipfs" / str(cid), headers=headers) as answer:
            try:
                async with asyncio.timeout(HANGS_S):
                    async for piece in answer.content.iter_any():
                        came += piece
            except TimeoutError:
                return answer.status, bytes(came), True
            return answer.status, bytes(came), False


class KuboContract:
    """The suite."""

    async def test_a_file_is_added_as_the_profile_says_and_pinned_by_name(self, daemon: Daemon) -> None:
        assert await daemon.add(DATA, pin_name="some name") == str(DAG.root)
        assert await daemon.pin_of(DAG.root) == "some name"

    async def test_a_dry_run_keeps_nothing(self, daemon: Daemon) -> None:
        assert await daemon.add(DATA, only_hash="true", pin="false") == str(DAG.root)
        assert "not found locally" in await daemon.refusal("block/stat", arg=str(DAG.root), offline="true")

    @pytest.mark.parametrize(
        ("links", "trickle"), [("1024", "false"), ("174", "false"), ("5", "false"), ("1024", "true"), ("5", "true")]
    )
    async def test_files_are_cut_and_linked_as_they_are_told(self, daemon: Daemon, links: str, trickle: str) -> None:
        data = DATA[: 1025 * 16 + 3]
        options = {"only_hash": "true", "pin": "false", "chunker": "size-16"}
        added = await daemon.add(data, max_file_links=links, **options, **{"trickle": trickle})
        assert added == str(root_of(data, 16, int(links), trickle=trickle == "true"))

    async def test_options_that_it_does_not_know_are_ignored(self, daemon: Daemon) -> None:
        assert await daemon.add(DATA, bogus="1") == str(DAG.root)

    async def test_an_upload_without_its_closing_boundary_is_cut_short_answered_200_and_pinned(
        self, daemon: Daemon
    ) -> None:
        assert await daemon.upload(_HEAD, DATA[:MIB], pin_name="cut") == str(CUT.root)
        assert await daemon.pin_of(CUT.root) == "cut"

    async def test_pinning_again_gives_the_pin_another_name(self, daemon: Daemon) -> None:
        await daemon.add(DATA, pin_name="one")
        status, _, text = await daemon.ask("pin/add", arg=str(DAG.root), name="other", progress="true")
        assert status == 200 and json.loads(text.splitlines()[-1]) == {"Pins": [str(DAG.root)]}
        assert await daemon.pin_of(DAG.root) == "other"

    async def test_pins_are_listed_by_a_part_of_their_name(self, daemon: Daemon) -> None:
        await daemon.add(DATA, pin_name="layermesh/1")
        await daemon.add(b"theirs", pin_name="theirs")
        _, _, text = await daemon.ask("pin/ls", type="recursive", stream="true", name="layermesh/")
        assert [json.loads(line) for line in text.splitlines()] == [
            {"Cid": str(DAG.root), "Name": "layermesh/1", "Type": "recursive"}
        ]

    async def test_what_is_not_pinned_is_said_so(self, daemon: Daemon) -> None:
        assert "is not pinned" in await daemon.refusal("pin/ls", arg=str(DAG.root), type="recursive", names="true")
        assert "not pinned or" in await daemon.refusal("pin/rm", arg=str(DAG.root))

    async def test_what_is_nowhere_is_neither_looked_for_nor_pinned_offline(self, daemon: Daemon) -> None:
        for command, where in (("block/stat", ""), ("block/get", ""), ("files/stat", "/ipfs/"), ("pin/add", "")):
            said = await daemon.refusal(command, arg=f"{where}{DAG.root}", **NOWHERE)
            assert "was not found locally (offline)" in said
        assert "is not pinned" in await daemon.refusal("pin/ls", arg=str(DAG.root), **NOWHERE)
        assert "not pinned or" in await daemon.refusal("pin/rm", arg=str(DAG.root), **NOWHERE)

    async def test_a_pin_of_what_nobody_has_tells_progress_and_no_end(self, daemon: Daemon) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HANGS_S):
                await daemon.ask("pin/add", arg=str(DAG.root), name="x", progress="true")
        assert "is not pinned" in await daemon.refusal("pin/ls", arg=str(DAG.root), type="recursive", names="true")

    async def test_what_is_unpinned_stays_until_it_collects(self, daemon: Daemon) -> None:
        await daemon.add(DATA)
        assert (await daemon.ask("pin/rm", arg=str(DAG.root)))[0] == 200
        assert (await daemon.ask("block/stat", arg=str(DAG.root), offline="true"))[0] == 200
        daemon.collect()
        assert "not found locally" in await daemon.refusal("block/stat", arg=str(DAG.root), offline="true")

    async def test_a_missing_leaf_is_seen_only_by_who_looks_at_every_block(self, daemon: Daemon) -> None:
        await daemon.add(DATA, pin="false")
        daemon.lose(DAG.leaf(2).cid)
        assert (await daemon.ask("block/stat", arg=str(DAG.root), offline="true"))[0] == 200
        _, _, text = await daemon.ask("files/stat", arg=f"/ipfs/{DAG.root}", with_local="true", offline="true")
        assert json.loads(text).get("Local") is not True

    async def test_a_missing_leaf_ends_a_body_in_the_middle_for_good(self, daemon: Daemon) -> None:
        await daemon.add(DATA, pin="false")
        daemon.lose(DAG.leaf(2).cid)
        for headers in ({}, {"Cache-Control": "only-if-cached"}):
            status, came, hung = await daemon.read(DAG.root, **headers)
            assert (status, hung) == (200, True)
            assert MIB < len(came) <= 2 * MIB and DATA.startswith(came)
        assert await daemon.read(DAG.root, Range=f"bytes=5-{MIB}") == (206, DATA[5 : MIB + 1], False)

    async def test_a_gateway_that_fetches_nothing_cuts_a_body_at_a_missing_leaf(self, fetching_nothing: Daemon) -> None:
        await fetching_nothing.add(DATA, pin="false")
        fetching_nothing.lose(DAG.leaf(2).cid)
        came = bytearray()
        async with fetching_nothing.session.get(fetching_nothing.gateway / "ipfs" / str(DAG.root)) as answer:
            assert (answer.status, answer.content_length) == (200, len(DATA))
            with pytest.raises(aiohttp.ClientPayloadError):
                async for piece in answer.content.iter_any():
                    came += piece
        assert came == DATA[: 2 * MIB]

    async def test_only_if_cached_asks_for_the_root_alone(self, daemon: Daemon) -> None:
        assert (await daemon.read(DAG.root, **{"Cache-Control": "only-if-cached"}))[0] == 412

    async def test_its_gateway_says_which_file_and_part_it_gives(self, daemon: Daemon) -> None:
        await daemon.add(DATA)
        url = daemon.gateway / "ipfs" / str(DAG.root)
        async with daemon.session.get(url, headers={"Range": "bytes=5-9"}) as answer:
            assert (answer.status, await answer.read()) == (206, DATA[5:10])
            assert answer.headers["Content-Range"] == f"bytes 5-9/{len(DATA)}"
            assert answer.headers["X-Ipfs-Path"] == f"/ipfs/{DAG.root}"
        async with daemon.session.get(url, headers={"Range": f"bytes={len(DATA)}-"}) as answer:
            assert answer.status == 416
        async with daemon.session.get(url.with_query(format="raw")) as answer:
            assert await answer.read() == DAG.interior[-1][1]

    async def test_commands_that_it_does_not_know_are_not_found(self, daemon: Daemon) -> None:
        status, kind, _ = await daemon.ask("no/such/command")
        assert (status, kind) == (404, "text/plain")
        async with daemon.session.get(daemon.rpc / "api/v0/version") as answer:
            assert answer.status == 405

    async def test_it_keeps_the_connections_that_it_is_told_of(self, daemon: Daemon) -> None:
        peer_id = "12D3KooWKvjC3xc6nirAzw42NfB67zTag8Qz4e6LoLAaq97y23kF"
        for ports in ((1, 2), (3, 4)):  # the addresses told last are those that count
            addresses = [f"/ip4/127.0.0.1/tcp/{port}" for port in ports]
            url = (daemon.rpc / "api/v0/swarm/peering/add").with_query(
                arg=[f"{each}/p2p/{peer_id}" for each in addresses]
            )
            async with daemon.session.post(url) as answer:
                assert answer.status == 200
        _, _, text = await daemon.ask("swarm/peering/ls")
        assert json.loads(text)["Peers"] == [{"ID": peer_id, "Addrs": addresses}]
        assert (await daemon.ask("swarm/peering/rm", arg=peer_id))[0] == 200
        _, _, text = await daemon.ask("swarm/peering/ls")
        assert not json.loads(text)["Peers"]
