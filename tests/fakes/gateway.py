"""An IPFS gateway in this process that gives raw blocks, or misbehaves as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web
from yarl import URL

from node.cid import Cid
from node.unixfs import LEAF_BYTES
from tests.fakes.peer import dag_of

RAW = "application/vnd.ipld.raw"
_PIECE = 64 * 1024


@dataclass
class FakeGateway:
    """What the gateway holds, how it misbehaves, and what it was asked."""

    late_s: float = 0.0
    """Answers to HEAD come so late."""
    silent: bool = False
    """Nothing is ever answered."""
    html: bool = False
    """Everything is answered with a web page."""
    status: int | None = None
    """Everything is answered with this."""
    lies: bool = False
    """Leaves have other bytes."""
    stalls: bool = False
    """Bodies hang behind their first bytes."""
    trickles_after: int | None = None
    """Behind so many bodies, the next come byte by byte."""
    slow_behind: tuple[int, float] | None = None
    """Behind so many bodies, the next come at so many bytes a second each."""
    claims: bool = False
    """HEAD says that everything is here."""
    url: URL = field(default_factory=URL)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Methods and CIDs."""
    headers: list[dict[str, str]] = field(default_factory=list)
    _blocks: dict[str, bytes] = field(default_factory=dict)
    _leaves: set[str] = field(default_factory=set)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, data: bytes) -> None:
        """Hold a file."""
        dag = dag_of(data)
        leaves = [dag.leaf(at) for at in range(dag.leaf_count)]
        self._blocks |= {str(cid): block for cid, block in dag.interior}
        self._blocks |= {str(leaf.cid): data[leaf.offset : leaf.offset + LEAF_BYTES] for leaf in leaves}
        self._leaves |= {str(leaf.cid) for leaf in leaves}

    def lose(self, leaf: bytes) -> None:
        """Hold a leaf no longer."""
        del self._blocks[str(Cid.of(leaf))]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A block, or a fault."""
        cid = request.match_info["cid"]
        self.asked.append((request.method, cid))
        self.headers.append(dict(request.headers))
        if self.silent:
            await self._over.wait()
        if request.method == "HEAD":
            await asyncio.sleep(self.late_s)
        if self.html:
            return web.Response(text="<html>Please log in</html>", content_type="text/html")
        block = self._blocks.get(cid, b"made up" if self.claims and request.method == "HEAD" else None)
        if self.status is not None or block is None:
            cached = "only-if-cached" in request.headers.get("Cache-Control", "")
            return web.Response(status=self.status or (412 if cached else 404), text="no\n")
        if self.lies and cid in self._leaves:
            block = bytes((block[0] ^ 1,)) + block[1:]
        return await self._send(request, block)

    async def _send(self, request: web.Request, block: bytes) -> web.StreamResponse:
        bodies = sum(method == "GET" for method, _ in self.asked)
        if request.method == "GET" and self.trickles_after is not None and bodies > self.trickles_after:
            return await self._trickle(request, block)
        if request.method == "GET" and self.slow_behind is not None and bodies > self.slow_behind[0]:
            return await self._trickle(request, block, _PIECE, _PIECE / self.slow_behind[1])
        if not self.stalls or request.method == "HEAD":
            return web.Response(body=block, content_type=RAW)
        response = web.StreamResponse(headers={"Content-Length": str(len(block))})
        await response.prepare(request)
        await response.write(block[:1])
        await self._over.wait()
        return response

    async def _trickle(
        self, request: web.Request, block: bytes, piece: int = 1, pause_s: float = 0.05
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(block))})
        await response.prepare(request)
        for at in range(0, len(block), piece):
            await response.write(block[at : at + piece])
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause_s)
                break
        return response


@asynccontextmanager
async def fake_gateway(gateway: FakeGateway, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeGateway]:
    """Serve it on a port of loopback, behind TLS where that is given."""
    app = web.Application()
    app.router.add_get("/ipfs/{cid}", gateway.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        gateway.url = URL.build(scheme="https" if tls else "http", host=host, port=port)
        yield gateway
    finally:
        gateway._over.set()
        await runner.cleanup()
