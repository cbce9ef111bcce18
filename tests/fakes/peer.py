"""A peer in this process that speaks the mesh protocol and the gateway, and lies, stalls or cuts as it is told."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgpack
from aiohttp import web
from yarl import URL

from cluster.auth import ANSWER_HEADER, Call, Keys, Proven, Replays, claimed_sender, sign_answer, verify_request
from cluster.tls import Certificate
from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError
from node.unixfs import LEAF_BYTES, Dag, build_dag


@dataclass
class Faults:
    """How the peer misbehaves; all off unless set. May be changed while it runs."""

    stall_after: int | None = None
    """A body hangs after so many bytes."""
    cut_after: int | None = None
    """The connection ends after so many bytes of a body."""
    trickle_s: float | None = None
    """A body comes in 10 KiB pieces, one per so many seconds."""
    flip_at: int | None = None
    """The byte at this offset of a file is wrong."""
    status: int | None = None
    """Files and blocks are answered with this."""
    ignore_range: bool = False
    wrong_node: bool = False
    """Interior nodes have other bytes."""
    hello: bytes | None = None
    log: bytes | Callable[[], bytes | None] | None = None
    """These bytes are sent instead of the message, where there are any."""
    hang: frozenset[str] = frozenset()
    """Paths whose requests are never answered."""
    unsigned: bool = False
    """Answers carry no proof, though the peer knows the secret."""
    wrong_secret: bool = False
    """Answers carry a proof by another secret."""


@dataclass
class FakePeer:
    """What the peer says it is and holds."""

    id: str = "f" * 32
    name: str = "fake"
    boot: str = "1" * 32
    secret: bytes | None = None
    certificate: Certificate | None = None
    """What it shows, where it speaks TLS and nothing else."""
    secured: bool | None = None
    """Whether it says that it has a secret; as it is, when None."""
    log_id: str = "2" * 32
    faults: Faults = field(default_factory=Faults)
    lines: list[list[object]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    greeted: list[dict[str, object]] = field(default_factory=list)
    bodies: int = 0
    """How many file bodies were asked for."""
    url: URL = field(default_factory=URL)
    _files: dict[str, bytes] = field(default_factory=dict)
    _nodes: dict[str, bytes] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _replays: Replays = field(default_factory=Replays)
    _runner: web.AppRunner | None = None

    async def leave(self) -> None:
        """Refuse connections from now on, and cut those that are open; every request that hangs ends."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        server = runner.server
        transports = [each.transport for each in server.connections if each.transport] if server else []
        await runner.cleanup()
        for transport in transports:
            transport.abort()  # what nobody reads any more is not waited for
        await asyncio.sleep(0)  # they close in the loop's next turn

    def hold(
        self, data: bytes, digest: Digest | None = None, visibility: str = "public", size: int | None = None
    ) -> Cid:
        """Hold a file, announced under its own digest or, as a lie, under another."""
        dag = dag_of(data)
        self._files[str(dag.root)] = data
        self._nodes |= {str(cid): block for cid, block in dag.interior}
        named = str(digest or Digest.of(data))
        self.say(["blob", self._seq(), named, dag.root.raw, len(data) if size is None else size, visibility])
        return dag.root

    def lend(self, data: bytes, namespace: str, repository: str, digest: Digest | None = None) -> None:
        """Share a file as content of a repository, under its own digest or, as a lie, under another."""
        dag = dag_of(data)
        self._files[str(dag.root)] = data
        self._nodes |= {str(cid): block for cid, block in dag.interior}
        named = str(digest or Digest.of(data))
        self.say(["shared", self._seq(), namespace, repository, named, dag.root.raw, len(data)])

    def see(self, tag: str, digest: Digest, seen_at: float, repository: str = "library/app") -> None:
        """Announce a tag observation."""
        media_type = "application/vnd.oci.image.manifest.v1+json"
        self.say(["tag", self._seq(), "docker.io", repository, tag, str(digest), media_type, seen_at, 100])

    def say(self, line: list[object]) -> None:
        """Add a line to the log, whatever it is."""
        self.lines.append(line)
        self._changed.set()

    def _seq(self) -> int:
        return len(self.lines) + 1

    async def _hello(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if body:
            self.greeted.append(msgpack.unpackb(body))
        secured = self.secret is not None if self.secured is None else self.secured
        plain = {"v": 1, "id": self.id, "name": self.name, "boot": self.boot, "port": self.url.port, "secured": secured}
        if self.certificate is not None:
            plain["tls"] = self.certificate.fingerprint
        return await self._answer(request, body, self.faults.hello or msgpack.packb(plain))

    async def _log(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["since"]) if request.query["id"] == self.log_id else 0
        if since >= len(self.lines) and float(request.query["wait"]):
            self._changed.clear()
            await self._changed.wait()
        lines = self.lines[since:]
        page = {"v": 1, "log": self.log_id, "upto": len(self.lines), "more": False, "lines": lines}
        override = self.faults.log() if callable(self.faults.log) else self.faults.log
        return await self._answer(request, b"", msgpack.packb(page) if override is None else override)

    async def _answer(self, request: web.Request, received: bytes, body: bytes) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path in self.faults.hang:
            await asyncio.Event().wait()
        headers = {}
        if self.secret is not None and "Authorization" in request.headers and not self.faults.unsigned:
            try:
                proven = self._prove(request, received)
            except DeniedError as error:
                return web.Response(status=401, text=str(error))
            keys = Keys.of(b"wrong" if self.faults.wrong_secret else self.secret)
            headers[ANSWER_HEADER] = sign_answer(keys, self.id, proven, 200, body)
        return web.Response(body=body, content_type="application/msgpack", headers=headers)

    def _prove(self, request: web.Request, body: bytes) -> Proven:
        assert self.secret is not None
        header = request.headers["Authorization"]
        channel = self.certificate.fingerprint if self.certificate else ""
        call = Call(claimed_sender(header), self.id, request.method, request.raw_path, body, channel)
        stamp = float(header.partition("time=")[2].partition(",")[0])
        return verify_request(Keys.of(self.secret), header, call, stamp, self._replays)

    async def _ipfs(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        cid, faults = request.match_info["cid"], self.faults
        if "/ipfs/" in faults.hang:
            await asyncio.Event().wait()
        if faults.status is not None:
            return web.Response(status=faults.status, text="as told")
        if request.query.get("format") == "raw" and cid in self._nodes:
            node = self._nodes[cid]
            return web.Response(body=b"\x00" + node[1:] if faults.wrong_node else node)
        if cid not in self._files:
            return web.Response(status=404, text="not here")
        self.bodies += 1
        return await self._send(request, self._files[cid])

    async def _send(self, request: web.Request, data: bytes) -> web.StreamResponse:
        faults = self.faults
        start, stop = _range(request, len(data))
        if faults.ignore_range:
            start, stop = 0, len(data)
        wrong = bytearray(data[start:stop])
        if faults.flip_at is not None and start <= faults.flip_at < stop:
            wrong[faults.flip_at - start] ^= 1
        partial = "Range" in request.headers and not faults.ignore_range
        answer = web.StreamResponse(status=206 if partial else 200)
        if partial:
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        answer.content_length = stop - start
        await answer.prepare(request)
        step = 10 * 1024 if faults.trickle_s else 64 * 1024
        for at in range(0, len(wrong), step):
            await self._misbehave(request, start + at + step)
            await answer.write(bytes(wrong[at : at + step]))
        await answer.write_eof()
        return answer

    async def _misbehave(self, request: web.Request, sent: int) -> None:
        faults = self.faults
        if faults.stall_after is not None and sent > faults.stall_after:
            await asyncio.Event().wait()
        if faults.cut_after is not None and sent > faults.cut_after and request.transport is not None:
            request.transport.abort()
            raise ConnectionResetError
        if faults.trickle_s:
            await asyncio.sleep(faults.trickle_s)


def dag_of(data: bytes) -> Dag:
    """The DAG of a file's bytes."""
    leaves = [data[at : at + LEAF_BYTES] for at in range(0, len(data), LEAF_BYTES)] or [b""]
    return build_dag(len(data), b"".join(hashlib.sha256(leaf).digest() for leaf in leaves))


def _range(request: web.Request, size: int) -> tuple[int, int]:
    header = request.headers.get("Range", "")
    first, _, last = header.removeprefix("bytes=").partition("-")
    return (int(first), min(int(last) + 1, size)) if header else (0, size)


@asynccontextmanager
async def fake_peer(peer: FakePeer | None = None, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[FakePeer]:
    """Run a peer; leaving ends every request that hangs."""
    peer = peer or FakePeer()
    app = web.Application()
    app.router.add_get("/mesh/v1/hello", peer._hello)
    app.router.add_post("/mesh/v1/hello", peer._hello)
    app.router.add_get("/mesh/v1/log", peer._log)
    app.router.add_get("/ipfs/{cid}", peer._ipfs)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=peer.certificate.context if peer.certificate else None)
    await site.start()
    scheme = "https" if peer.certificate else "http"
    peer.url = URL.build(scheme=scheme, host=host, port=runner.addresses[0][1])
    peer._runner = runner
    try:
        yield peer
    finally:
        await peer.leave()
