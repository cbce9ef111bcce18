"""A hostile neighbour: it speaks the mesh protocol and mDNS as a node does, and lies.

    python -m tests.e2e.hostile --address IP --lie KIND [--secret-file FILE]

It knows the image `library/scene` (made from its seed), and says that it holds all of it. The lie is

- `mapping`: each digest stands for a CID of other bytes, which it serves faithfully;
- `bytes`: each digest stands for its right CID, but the bytes it serves are not right;
- `stall`, `cut`: the bytes are right, as far as they come;
- `tags`: besides `mapping`, `library/scene:1` stands for the arm64 image, seen tomorrow.
"""

import argparse
import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from aiohttp import web
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from cluster.auth import ANSWER_HEADER, Call, Keys, Replays, claimed_sender, sign_answer, verify_request
from cluster.messages import CONTENT_TYPE, VERSION, BlobLine, Hello, Line, LogPage, TagLine, encode
from node.http import parse_range
from node.unixfs import LEAF_BYTES, Dag, build_dag
from tests.e2e.library import make_scene
from tests.fakes.images import Blob, all_blobs

PORT: Final = 5051
KINDS: Final = ("mapping", "bytes", "stall", "cut", "tags")
_SENT_BYTES: Final = 100_000
_A_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Lie:
    """What is said of one blob: its DAG, and the bytes that are served for it."""

    blob: Blob
    dag: Dag
    served: bytes

    @classmethod
    def of(cls, blob: Blob, kind: str) -> Self:
        """Every MiB of wrong bytes has one that differs."""
        if kind in ("stall", "cut"):
            return cls(blob, _dag(blob.data), blob.data)
        wrong = bytearray(blob.data)
        for at in range(0, len(wrong), LEAF_BYTES):
            wrong[at] ^= 0xFF
        described = blob.data if kind == "bytes" else bytes(wrong)
        return cls(blob, _dag(described), bytes(wrong))


class Neighbour:
    """The liar's mesh listener."""

    def __init__(self, kind: str, lies: list[Lie], tags: list[TagLine], keys: Keys | None) -> None:
        self._kind = kind
        self._id, self._boot, self._log = (secrets.token_hex(16) for _ in range(3))
        self._keys = keys
        self._replays = Replays()
        lines: list[Line] = []
        for lie in lies:
            lines.append(BlobLine(len(lines) + 1, str(lie.blob.digest), lie.dag.root.raw, lie.blob.size, "public"))
        self._lines = [*lines, *tags]
        self._blocks = {str(cid): block for lie in lies for cid, block in lie.dag.interior}
        self._files = {str(lie.dag.root): lie.served for lie in lies}

    def app(self) -> web.Application:
        """What it answers."""
        app = web.Application()
        app.router.add_get("/mesh/v1/hello", self.hello)
        app.router.add_post("/mesh/v1/hello", self.hello)
        app.router.add_get("/mesh/v1/log", self.log)
        app.router.add_get("/ipfs/{cid}", self.read)
        return app

    def announcement(self, address: str) -> AsyncServiceInfo:
        """What it says by mDNS."""
        return AsyncServiceInfo(
            "_layermesh._tcp.local.",
            f"{self._id[:12]}-{self._boot[:8]}._layermesh._tcp.local.",
            parsed_addresses=[address],
            port=PORT,
            properties={"id": self._id, "boot": self._boot, "name": "mallory", "v": str(VERSION)},
            server=f"{self._id[:12]}.local.",
        )

    async def hello(self, request: web.Request) -> web.Response:
        """It is polite."""
        secured = self._keys is not None
        hello = Hello(v=VERSION, id=self._id, name="mallory", boot=self._boot, port=PORT, secured=secured)
        return await self._answer(request, encode(hello))

    async def log(self, request: web.Request) -> web.Response:
        """All lies at once, then silence."""
        since = int(request.query["since"]) if request.query.get("id") == self._log else 0
        if since >= len(self._lines):
            await asyncio.sleep(float(request.query.get("wait", "1")))
        lines = self._lines[since:]
        page = LogPage(v=VERSION, log=self._log, upto=len(self._lines), more=False, lines=lines)
        return await self._answer(request, encode(page))

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Wrong bytes, or right bytes of something else; noted on standard output, so that a test sees it was asked."""
        cid = request.match_info["cid"]
        print("asked for", cid, flush=True)
        raw = request.query.get("format") == "raw" or "vnd.ipld.raw" in request.headers.get("Accept", "")
        if raw and cid in self._blocks:
            return web.Response(body=self._blocks[cid])
        data = self._files.get(cid)
        if data is None:
            raise web.HTTPNotFound
        wanted = parse_range(request.headers.get("Range"), len(data))
        if wanted is None:
            return await self._send(request, web.StreamResponse(), data)
        where = {"Content-Range": f"bytes {wanted.start}-{wanted.stop - 1}/{len(data)}"}
        return await self._send(
            request, web.StreamResponse(status=206, headers=where), data[wanted.start : wanted.stop]
        )

    async def _send(self, request: web.Request, response: web.StreamResponse, data: bytes) -> web.StreamResponse:
        response.content_length = len(data)
        await response.prepare(request)
        if self._kind in ("stall", "cut"):
            await response.write(data[: min(_SENT_BYTES, len(data) - 1)])
            await asyncio.sleep(3600 if self._kind == "stall" else 0)
            if request.transport is not None:
                request.transport.close()
        else:
            await response.write(data)
        return response

    async def _answer(self, request: web.Request, body: bytes) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE}
        proof = request.headers.get("Authorization")
        if self._keys is not None and proof is not None:
            call = Call(claimed_sender(proof), self._id, request.method, request.raw_path, await request.read())
            proven = verify_request(self._keys, proof, call, time.time(), self._replays)
            headers[ANSWER_HEADER] = sign_answer(self._keys, self._id, proven, 200, body)
        return web.Response(body=body, headers=headers)


def _dag(data: bytes) -> Dag:
    leaves = (data[at : at + LEAF_BYTES] for at in range(0, max(len(data), 1), LEAF_BYTES))
    return build_dag(len(data), b"".join(hashlib.sha256(leaf).digest() for leaf in leaves))


async def _serve(address: str, lie: str, secret: bytes | None) -> None:
    scene = make_scene()
    lies = [Lie.of(blob, lie) for blob in all_blobs(scene)]
    tomorrow = time.time() + _A_DAY_S
    other = scene.images[1].manifest
    claim = ("docker.io", "library/scene", "1", str(other.digest), other.media_type, tomorrow, other.size)
    tags = [TagLine(len(lies) + 1, *claim)] if lie == "tags" else []
    neighbour = Neighbour(lie, lies, tags, Keys.of(secret) if secret else None)
    runner = web.AppRunner(neighbour.app())
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", PORT).start()
    zeroconf = AsyncZeroconf(interfaces=[address], ip_version=IPVersion.V4Only)
    await (await zeroconf.async_register_service(neighbour.announcement(address)))
    print("lying", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Lie until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--lie", choices=KINDS, required=True)
    parser.add_argument("--secret-file", type=Path)
    given = parser.parse_args()
    secret = given.secret_file.read_bytes().strip() if given.secret_file else None
    asyncio.run(_serve(given.address, given.lie, secret))


if __name__ == "__main__":
    main()
