"""Looking at a Kubo goes on, whatever it says, and tells of a file only what it said of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from node.cid import Cid
from node.ipfs.ipfshttpclient.network import open_ipfshttpclient
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import OnDaemon, Timings, open_kubo
from node.store import Store
from tests.facade.machine import until
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.kubo.daemon import running_kubo

Opener = Callable[[Store, Endpoint, Timings], AbstractAsyncContextManager[OnDaemon]]
QUICK = Timings(look_every_s=0.02, look_again_s=0.02)
OPENERS = pytest.mark.parametrize("opened", [open_kubo, open_ipfshttpclient])
FILE = b"x" * (3 << 20)


@dataclass
class Saying(FakeKubo):
    """A daemon that answers some commands with these bytes, or not at all where their status is 0."""

    says: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See `FakeKubo.answer`."""
        command = request.match_info["command"]
        if command not in self.says:
            return await super().answer(request)
        self.asked.append(command)
        status, body = self.says[command]
        if not status:
            await self.released.wait()
        kind = "text/plain" if status == 403 else "application/json"
        return web.Response(status=status, body=body, content_type=kind)


@pytest.fixture
async def kubo() -> AsyncIterator[Saying]:
    async with fake_kubo(Saying()) as fake:
        assert isinstance(fake, Saying)
        yield fake


@asynccontextmanager
async def looking(network: OnDaemon) -> AsyncIterator[None]:
    """Look at it meanwhile."""
    task = asyncio.create_task(network.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@OPENERS
@pytest.mark.parametrize(("command", "body"), [("id", b'{"ID": "\xff"}'), ("add", b'{"Hash": "\xff"}')])
async def test_what_is_no_text_is_no_answer_and_the_look_goes_on(
    store: Store, kubo: Saying, opened: Opener, command: str, body: bytes
) -> None:
    kubo.says[command] = 200, body
    async with opened(store, Endpoint(kubo.rpc), QUICK) as network, looking(network):
        await until(lambda: "not been looked at" not in (network.known.trouble or ""))
        assert network.known.trouble is not None and "this node failed" not in network.known.trouble
        kubo.says.clear()
        await until(lambda: network.usable)
        kubo.says["files/stat"] = 200, b'{"Local": "\xff"}'
        kubo.asked.clear()
        network.doubt(kubo.keep(FILE))
        await until(lambda: "files/stat" in kubo.asked)


async def test_a_defect_of_this_node_is_told_of_and_the_look_goes_on(
    store: Store, kubo: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    told: list[str] = []
    with capture_logs() as logged:
        async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
            monkeypatch.setattr(network, "_learn", lambda known: told.append(known.trouble or "well"))
            for method in ("identity", "is_whole"):
                with monkeypatch.context() as changed:
                    changed.setattr(network.daemon, method, defect)
                    async with looking(network):
                        network.doubt(Cid.of(b"x"))
                        await until(lambda: "this node failed: ZeroDivisionError" in told)
                        told.clear()
                        changed.undo()
                        await until(lambda: "well" in told)
                told.clear()
    events = [line["event"] for line in logged if line.get("exc_info")]
    assert set(events) == {"looking at kubo failed", "examining what kubo gave failed"}


@pytest.mark.parametrize(
    ("opened", "command"),
    [
        *[(open_kubo, command) for command in ("block/stat", "files/stat", "pin/ls", "pin/add", "pin/rm")],
        (open_ipfshttpclient, "block/get"),
    ],
)
async def test_a_login_that_lacks_a_command_is_refused_until_it_has_it(
    store: Store, kubo: Saying, opened: Opener, command: str
) -> None:
    kubo.says[command] = 403, b"Kubo RPC Access Denied"
    async with opened(store, Endpoint(kubo.rpc), QUICK) as network:
        for _ in range(2):
            trouble = (await network.health()).trouble
            assert trouble is not None and "refuses this node (403)" in trouble and "all of /api/v0" in trouble
        kubo.says.clear()
        assert (await network.health()).trouble is None
        assert not kubo.blocks and not kubo.pinned


@OPENERS
async def test_a_kubo_that_keeps_a_pin_waiting_while_it_collects_is_used(
    store: Store, kubo: Saying, opened: Opener
) -> None:
    kubo.says = {"pin/add": (0, b""), "pin/rm": (0, b"")}
    async with opened(store, Endpoint(kubo.rpc), QUICK) as network:
        assert (await network.health()).trouble is None


@OPENERS
async def test_a_real_kubo_whose_login_lacks_commands_is_refused_and_stays_so(
    store: Store, tmp_path: Path, opened: Opener
) -> None:
    allowed = [f"/api/v0/{command}" for command in ("id", "version", "add", "config", "pin")]
    login = {"tests": {"AuthSecret": "bearer:x", "AllowedPaths": allowed}}
    with running_kubo(tmp_path / "kubo", settings={"API": {"Authorizations": login}}) as kubo:
        async with opened(store, Endpoint(kubo.rpc, authorization="Bearer x"), Timings()) as network:
            for _ in range(2):
                assert "refuses this node (403)" in ((await network.health()).trouble or "")
                assert not await network.here(Cid.of(b"x"))


@OPENERS
@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ("context deadline exceeded", False),
        ("something else went wrong", False),
        ("block was not found locally (offline): ipld: could not find x", True),
    ],
)
async def test_a_file_lacks_a_part_only_where_kubo_says_so(
    store: Store, kubo: Saying, opened: Opener, message: str, lacks: bool
) -> None:
    cid = kubo.keep(FILE, "name")
    kubo.says["files/stat"] = 500, b'{"Message": "%s", "Code": 0, "Type": "error"}' % message.encode()
    async with opened(store, Endpoint(kubo.rpc), QUICK) as network:
        assert await network.daemon.is_whole(cid, within_s=5.0) is (False if lacks else None)
        assert not await network.daemon.has_file(cid)
