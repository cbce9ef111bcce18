"""The RPC, over every way to a daemon, and with answers that nobody should give."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from node.cid import Cid
from node.digest import Digest
from node.errors import FullError, LayermeshError, NotFoundError, UnreachableError
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint, parse_authorization
from node.ipfs.kubo.kubo import Timings, open_kubo
from node.ipfs.kubo.rpc import CommandError, Rpc, open_session
from node.store import Store
from tests.fakes.certificates import trusting, write_certificate
from tests.fakes.kubo import fake_kubo
from tests.fakes.relay import relaying
from tests.kubo.daemon import Kubo, running_kubo
from tests.node.contents import MIB, PUBLIC, content
from tests.node.gateways import Handler, serving

DATA = content(MIB + 1)
QUICK = Timings(look_s=1.0, swarm_s=0.5)


async def works(store: Store, endpoint: Endpoint) -> None:
    """Publish a blob, and read it."""
    holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
    async with open_kubo(store, endpoint, QUICK) as kubo:
        assert (await kubo.health()).trouble is None
        assert await kubo.add(holding.digest) == holding.cid
        async with kubo.open(holding.cid) as pieces:
            assert b"".join([piece async for piece in pieces]) == DATA


@pytest.mark.parametrize("secret", ["bearer:a-token", "basic:me:a password"])
async def test_a_kubo_that_asks_for_a_login_gets_it(store: Store, tmp_path: Path, secret: str) -> None:
    with running_kubo(tmp_path / "kubo", authorization=secret) as kubo:
        await works(store, Endpoint(kubo.rpc, authorization=parse_authorization(secret)))
        for wrong in (None, "Bearer wrong"):
            async with open_kubo(store, Endpoint(kubo.rpc, authorization=wrong), QUICK) as refused:
                assert "API.Authorizations" in str((await refused.health()).trouble)


async def test_a_kubo_is_reached_by_its_unix_socket(store: Store, tmp_path: Path) -> None:
    with running_kubo(tmp_path / "kubo", unix=True) as kubo:
        await works(store, Endpoint(URL("http://localhost"), kubo.rpc.path))
    async with open_kubo(store, Endpoint(URL("http://localhost"), kubo.rpc.path), QUICK) as gone:
        trouble = (await gone.health()).trouble
        assert trouble == f"Kubo at unix://{kubo.rpc.path} is away: no such file or directory"


async def test_a_kubo_behind_tls_is_used_with_its_own_authority(store: Store, tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with fake_kubo(tls=context) as fake:
        await works(store, Endpoint(fake.rpc, tls=trusting()))
        async with open_kubo(store, Endpoint(fake.rpc), QUICK) as untrusted:
            assert "certificate" in str((await untrusted.health()).trouble)


async def test_a_real_kubo_behind_a_proxy_that_speaks_tls_is_used(store: Store, tmp_path: Path, kubo: Kubo) -> None:
    files = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with relaying(kubo.rpc, tls=context) as proxy:
        await works(store, Endpoint(proxy.url, tls=trusting()))
        async with open_kubo(store, Endpoint(proxy.url), QUICK) as untrusted:
            assert "shows no certificate that is trusted" in str((await untrusted.health()).trouble)


@dataclass
class Answering:
    """A daemon that answers everything alike."""

    daemon: Daemon
    rpc: Rpc


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[Answering]:
    async with serving([web.post("/api/v0/{command:.*}", handler)]) as base:
        endpoint = Endpoint(base)
        async with open_session(endpoint) as session:
            rpc = Rpc(endpoint, session)
            yield Answering(Daemon(rpc), rpc)


def saying(status: int, text: str | bytes, kind: str = "application/json") -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        body = text if isinstance(text, bytes) else text.encode()
        return web.Response(status=status, body=body, content_type=kind)

    return answer


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        (saying(200, "<html>", "text/html"), UnreachableError, "is no Kubo RPC"),
        (saying(302, "", "text/html"), UnreachableError, "is no Kubo RPC: it said 302"),
        (saying(404, "404 page not found", "text/plain"), UnreachableError, "is no Kubo RPC: it said 404"),
        (saying(403, "no", "text/plain"), UnreachableError, "refuses this node"),
        (saying(401, "no", "text/html"), UnreachableError, "refuses this node"),
        (saying(400, "bad option", "text/plain"), CommandError, "bad option"),
        (saying(200, "{not json"), UnreachableError, "is no Kubo RPC"),
        (saying(200, b'{"Version": "\xff"}'), UnreachableError, "is no Kubo RPC"),
        (saying(500, b'{"Message": "\xff"}'), UnreachableError, "is no Kubo RPC"),
        (saying(200, "[" * 100_000), UnreachableError, "is no Kubo RPC"),
        (saying(200, '{"a": "' + "x" * (1 << 20) + '"}'), UnreachableError, "is no Kubo RPC"),
        (saying(500, "[]"), CommandError, "it failed"),
        (saying(500, '{"Message": "no space left on device"}'), FullError, "disk is full"),
        (saying(500, '{"Message": "write /' + "a/" * 2000 + 'temp: no space left on device"}'), FullError, "is full"),
        (saying(500, '{"Message": "' + "a" * 4000 + ' is not pinned"}'), NotFoundError, "aaa"),
        (saying(500, '{"Message": "x: block was not found locally (offline)"}'), NotFoundError, "not found locally"),
        (saying(500, '{"Message": "a\\u001b[31mb"}'), CommandError, "a [31mb"),
    ],
)
async def test_what_is_no_answer_is_told_in_words(handler: Handler, error: type[LayermeshError], words: str) -> None:
    async with answering(handler) as kubo:
        with pytest.raises(error) as caught:
            await kubo.rpc.ask("version")
        assert words in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["{}", "[]", "null", "5", '{"Version": 5, "ID": [], "Keys": 3, "Peers": 7}', ""])
async def test_answers_of_another_shape_are_no_defect(text: str) -> None:
    async with answering(saying(200, text)) as kubo:
        cid = Cid.of(b"x")
        for question in (kubo.daemon.version, kubo.daemon.identity):
            with pytest.raises(UnreachableError):
                await question()
        assert await kubo.daemon.pinned(cid) is None
        assert not await kubo.daemon.has_file(cid)
        assert await kubo.daemon.peered() == set()
        async with aclosing(kubo.daemon.pins("x")) as pins:
            assert [pin async for pin in pins] == []
        with pytest.raises(NotFoundError):
            await kubo.daemon.pin(cid, "x")


async def test_a_line_without_end_is_given_up() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(bytes(MIB))

    async with answering(endless) as kubo, aclosing(kubo.daemon.pins("x")) as pins:
        with pytest.raises(UnreachableError, match="no Kubo RPC"):
            await anext(pins)


async def test_a_list_that_stops_is_given_up() -> None:
    released = asyncio.Event()

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"Progress": 1}\n')
        await released.wait()
        return response

    async with answering(stalls) as kubo:
        with pytest.raises(NotFoundError, match="nobody in the swarm gives it"):
            await kubo.daemon.pin(Cid.of(b"x"), "x", stall_s=0.1)
        released.set()


@pytest.mark.parametrize(("status", "piece", "words"), [(200, b"\n", "no Kubo RPC"), (500, b"", "gives no answer")])
async def test_a_list_that_tells_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, status: int, piece: bytes, words: str
) -> None:
    monkeypatch.setattr("node.ipfs.kubo.rpc.ANSWER_S", 0.2)

    async def empty(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while request.transport is not None:
            await response.write(piece * 4096)
            await asyncio.sleep(0.001)
        return response

    async with asyncio.timeout(10), answering(empty) as kubo, aclosing(kubo.daemon.pins("x")) as pins:
        with pytest.raises(UnreachableError, match=words):
            await anext(pins)


async def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.ipfs.kubo.daemon.MOST_PINS", 1000)
    line = b'{"Cid": "%s", "Name": "x"}\n' % str(Cid.of(b"x")).encode()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(line * 100)

    async with asyncio.timeout(10), answering(endless) as kubo, aclosing(kubo.daemon.pins("x")) as pins:
        with pytest.raises(UnreachableError, match="more than 1000 pins"):
            async for _ in pins:
                pass
