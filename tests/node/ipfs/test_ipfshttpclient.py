"""What ipfshttpclient would do by itself, and must not: hang, keep all that comes, give half a file, go elsewhere."""

import asyncio
import importlib.util
import ssl
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from node.cid import Cid
from node.digest import Digest
from node.errors import FullError, LayermeshError, MismatchError, NotFoundError, StartError, UnreachableError
from node.ipfs.ipfshttpclient import check_installed
from node.ipfs.ipfshttpclient.commands import Commands, open_commands
from node.ipfs.ipfshttpclient.network import IpfsHttpClient, open_ipfshttpclient
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import Timings
from node.store import Store, open_store
from tests.contracts.networks import pinned, read
from tests.fakes.certificates import trusting, write_certificate
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.kubo.daemon import running_kubo
from tests.node.contents import MIB, PUBLIC, content

QUICK = Timings(look_s=10.0, stall_s=2.0, swarm_s=0.5, pin_stall_s=0.5)
DATA = content(6 * MIB + 5, "by a library")
ABSENT = Cid.of(b"absent")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "data") as one:
        yield one


@pytest.fixture
async def kubo() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as fake:
        yield fake


@pytest.fixture
async def network(store: Store, kubo: FakeKubo) -> AsyncIterator[IpfsHttpClient]:
    async with open_ipfshttpclient(store, Endpoint(kubo.rpc), QUICK) as one:
        assert (await one.health()).trouble is None
        yield one


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Endpoint]:
    """Something at the RPC's place that answers every command alike."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Endpoint(URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1]))
    finally:
        await runner.cleanup()


def endless(piece: bytes, status: int = 200, content_type: str = "application/json") -> Answer:
    """An answer without an end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": content_type})
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(piece)
        return response

    return answer


async def upload(commands: Commands, folder: Path, data: bytes, *, more: int = 0) -> Cid:
    """Upload a file, of which is said that it has `more` bytes than it has."""
    (folder / "file").write_bytes(data)
    with (folder / "file").open("rb") as file:
        return await commands.upload(file, len(data) + more, "name")


def busy_threads() -> list[str]:
    """Threads that wait for a daemon."""
    frames = sys._current_frames()
    waiting = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        while thread.name.startswith("layermesh-ipfs") and frame is not None:
            if frame.f_code.co_name == "_run" and "ipfshttpclient" in frame.f_code.co_filename:
                waiting.append(thread.name)
                break
            frame = frame.f_back
    return waiting


async def until_idle() -> None:
    """Wait until no thread waits for a daemon."""
    async with asyncio.timeout(10):
        while busy_threads():
            await asyncio.sleep(0.01)


async def test_a_file_that_has_lost_a_block_is_never_given_as_a_shorter_one(
    network: IpfsHttpClient, kubo: FakeKubo
) -> None:
    root = kubo.keep(DATA)
    del kubo.blocks[kubo.leaves(root)[4]]
    got = bytearray()
    with pytest.raises(NotFoundError, match="nobody in the swarm gives it"):
        async with network.open(root) as pieces:
            async for piece in pieces:
                got += piece
    assert bytes(got) == DATA[: 4 * MIB]


async def test_wrong_bytes_are_never_given(network: IpfsHttpClient, kubo: FakeKubo) -> None:
    root = kubo.keep(DATA)
    kubo.faults.wrong_leaf = kubo.leaves(root)[1]
    with pytest.raises(MismatchError):
        await read(network, root)
    assert await read(network, root, 2 * MIB) == DATA[2 * MIB :]


async def test_a_frozen_daemon_is_told_of_in_time_and_no_thread_stays_with_it(
    network: IpfsHttpClient, kubo: FakeKubo, store: Store
) -> None:
    kubo.faults.frozen = True
    digest = (await store.put(Digest.of(DATA), DATA, PUBLIC)).digest
    async with asyncio.timeout(60):
        assert "is it frozen?" in str((await network.health()).trouble)
        with pytest.raises(UnreachableError, match="is it frozen"):
            await network.add(digest)
    await until_idle()


async def test_who_waits_no_longer_leaves_no_thread_behind(network: IpfsHttpClient, kubo: FakeKubo) -> None:
    waiting = asyncio.create_task(network.block(ABSENT))
    pinning = asyncio.create_task(network.pin(ABSENT))
    async with asyncio.timeout(10):
        while len(busy_threads()) < 2:
            await asyncio.sleep(0.01)
    for task in (waiting, pinning):
        task.cancel()
    assert {type(each) for each in await asyncio.gather(waiting, pinning, return_exceptions=True)} == {
        asyncio.CancelledError
    }
    await until_idle()
    assert await read(network, kubo.keep(DATA)) == DATA


async def test_reading_can_be_stopped_in_the_middle(network: IpfsHttpClient, kubo: FakeKubo) -> None:
    root = kubo.keep(DATA)
    async with network.open(root, 10) as pieces:
        assert await anext(pieces) == DATA[10:MIB]
    await until_idle()


async def test_an_upload_that_was_cut_is_not_taken_for_the_blob(
    network: IpfsHttpClient, kubo: FakeKubo, store: Store
) -> None:
    kubo.faults.cut_upload = True
    await store.put(Digest.of(DATA), DATA, PUBLIC)
    with pytest.raises(MismatchError):
        await network.add(Digest.of(DATA))
    assert await pinned(network) == set()
    assert kubo.pinned == {}


async def test_a_full_disk_is_told_as_that(network: IpfsHttpClient, kubo: FakeKubo, store: Store) -> None:
    kubo.faults.full = True
    await store.put(Digest.of(DATA), DATA, PUBLIC)
    with pytest.raises(FullError, match="no space left on device"):
        await network.add(Digest.of(DATA))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless(b"x" * 65536), "is no Kubo RPC"),
        (endless(b"\n" * 65536), "is no Kubo RPC"),
        (endless(b'{"Keys":1}\n[' * 5000), "is no Kubo RPC"),
        (endless(b"[" * 65536), "is no Kubo RPC"),
        (endless(b"x" * 65536, status=500), "Kubo: xxx"),
        (endless(b"x" * 65536, status=404), "is no Kubo RPC: it said 404"),
        (endless(b"<html>", content_type="text/html"), "is no Kubo RPC: it said 200 'text/html'"),
    ],
)
async def test_answers_without_an_end_are_refused_with_a_reason(store: Store, answer: Answer, words: str) -> None:
    async with answering(answer) as endpoint, open_ipfshttpclient(store, endpoint, QUICK) as network:
        await store.put(Digest.of(DATA), DATA, PUBLIC)
        assert words in str((await network.health()).trouble)
        for work in (network.add(Digest.of(DATA)), network.unpin(ABSENT), pinned(network)):
            async with asyncio.timeout(30):
                with pytest.raises(UnreachableError):
                    await work
        await until_idle()


async def test_a_block_without_an_end_is_refused() -> None:
    answer = endless(b"x" * 65536, content_type="application/octet-stream")
    async with answering(answer) as endpoint, open_commands(endpoint) as commands:
        with pytest.raises(UnreachableError, match="more than 2097152 bytes"):
            await commands.block(ABSENT, 5)


async def test_what_add_answers_is_short_or_refused(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(text="[1,\n" * 100_000, content_type="application/json")

    async with answering(answer) as endpoint, open_commands(endpoint) as commands:
        with pytest.raises(UnreachableError, match="more than `add` answers"):
            await upload(commands, tmp_path, DATA)


async def test_no_redirect_is_followed(store: Store) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/elsewhere")

    async with answering(answer) as endpoint, open_commands(endpoint) as commands:
        with pytest.raises(UnreachableError, match="is no Kubo RPC: it said 307 'a redirect'"):
            await commands.ask("id")


async def test_no_proxy_and_no_netrc_of_the_environment_counts(
    store: Store, kubo: FakeKubo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    kubo.authorization = "Bearer right"
    async with open_ipfshttpclient(store, Endpoint(kubo.rpc, authorization="Bearer right"), QUICK) as network:
        assert (await network.health()).trouble is None
    async with open_ipfshttpclient(store, Endpoint(kubo.rpc), QUICK) as network:
        assert "refuses this node (403)" in str((await network.health()).trouble)


async def test_a_daemon_that_is_away_is_told_of_in_words(store: Store) -> None:
    async with open_ipfshttpclient(store, Endpoint(URL("http://127.0.0.1:1")), QUICK) as network:
        assert (await network.health()).trouble == "Kubo at http://127.0.0.1:1 is away: connection refused"


async def test_nothing_of_the_librarys_warnings_reaches_the_process(network: IpfsHttpClient, kubo: FakeKubo) -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert await read(network, kubo.keep(DATA)) == DATA
    assert [str(each.message) for each in heard] == []
    assert warnings.filters == before


async def test_a_file_that_shrinks_while_it_is_uploaded_is_not_added(kubo: FakeKubo, tmp_path: Path) -> None:
    async with open_commands(Endpoint(kubo.rpc)) as commands:
        with pytest.raises(UnreachableError, match="shorter than it was"):
            await upload(commands, tmp_path, DATA, more=1)
    assert kubo.pinned == {}


async def test_a_daemon_behind_tls_is_believed_by_its_authority(store: Store, tmp_path: Path) -> None:
    fake, files = FakeKubo(), write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/api/v0/{command:.*}", fake.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        rpc = URL.build(scheme="https", host="127.0.0.1", port=runner.addresses[0][1])
        async with open_ipfshttpclient(store, Endpoint(rpc, tls=trusting()), QUICK) as network:
            assert (await network.health()).trouble is None
        async with open_ipfshttpclient(store, Endpoint(rpc), QUICK) as network:
            assert "certificate" in str((await network.health()).trouble)
    finally:
        await runner.cleanup()


async def test_a_real_kubo_is_reached_by_a_unix_socket_with_a_login(store: Store, tmp_path: Path) -> None:
    with running_kubo(tmp_path / "kubo", unix=True, authorization="bearer:secret") as real:
        endpoint = Endpoint(URL("http://localhost"), real.rpc.path, authorization=real.authorization)
        async with open_ipfshttpclient(store, endpoint, QUICK) as network:
            assert (await network.health()).trouble is None
            holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
            assert await network.add(holding.digest) == holding.cid
            assert await read(network, holding.cid, MIB - 1, MIB + 1) == DATA[MIB - 1 : MIB + 1]


async def test_a_real_kubo_that_has_lost_a_block_gives_an_error_and_no_shorter_file(
    store: Store, tmp_path: Path
) -> None:
    with running_kubo(tmp_path / "kubo") as real:
        async with open_ipfshttpclient(store, Endpoint(real.rpc), QUICK) as network:
            await network.health()
            holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
            await network.add(holding.digest)
            dag = await store.dag(holding.digest)
            assert dag is not None
            await network.withdraw(holding.cid)
            real.call("block/rm", str(dag.leaf(3).cid))
            with pytest.raises(LayermeshError):
                await read(network, holding.cid)
            assert await read(network, holding.cid, 0, 3 * MIB) == DATA[: 3 * MIB]


def test_without_the_extra_there_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"pip install 'layermesh\[ipfshttpclient\]'"):
        check_installed()
