"""A Kubo in this process: the commands of its RPC and its gateway, as far as they are used, and what goes wrong there.

Its behaviour is that of Kubo 0.43, which `tests/contracts/kubos.py` holds both to.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from yarl import URL

from node.cid import IDENTITY_PROBE, Cid, Codec
from node.unixfs import LEAF_BYTES, parse_node
from tests.fakes.dag_layouts import root_of
from tests.fakes.kubo_faults import KuboFaults
from tests.fakes.peer import dag_of

_PROFILE: Final = {"cid-version": "1", "raw-leaves": "true"}
FULL: Final = "committing batch to datastore at /: write /repo/put: no space left on device"
_MISSING: Final = "block was not found locally (offline): ipld: could not find {}"
_PIECE: Final = 64 * 1024
HTML: Final = "<!DOCTYPE html><html><title>Welcome to nginx!</title></html>"


@dataclass
class FakeKubo:
    """What it keeps and whom it knows. Made by `fake_kubo`."""

    peer_id: str = "12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"
    faults: KuboFaults = field(default_factory=KuboFaults)
    authorization: str | None = None
    """The header that its RPC asks for."""
    blocks: dict[Cid, bytes] = field(default_factory=dict)
    pinned: dict[Cid, str] = field(default_factory=dict)
    swarm: list["FakeKubo"] = field(default_factory=list)
    """The daemons that it is connected to."""
    peerings: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The commands that its RPC was sent, and the paths that its gateway was."""
    examined: list[Cid] = field(default_factory=list)
    """The files of which it was asked whether every block is there."""
    from_swarm: int = 0
    """Bytes of blocks that came from others."""
    rpc: URL = field(default_factory=URL)
    gateway: URL = field(default_factory=URL)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets go what hangs."""

    def keep(self, data: bytes, name: str | None = None) -> Cid:
        """Have a file, pinned under a name unless that is None."""
        dag = dag_of(data)
        for index in range(dag.leaf_count):
            leaf = dag.leaf(index)
            self.blocks[leaf.cid] = data[leaf.offset : leaf.offset + leaf.length]
        self.blocks.update(dag.interior)
        if name is not None:
            self.pinned[dag.root] = name
        return dag.root

    def collect(self) -> None:
        """Keep only what is pinned."""
        kept = {cid for root in self.pinned for cid in self._below(root)}
        self.blocks = {cid: block for cid, block in self.blocks.items() if cid in kept}

    def leaves(self, root: Cid) -> list[Cid]:
        """The leaves of a file that it has."""
        return [cid for cid in self._below(root) if cid.codec is Codec.RAW]

    def _size(self, root: Cid) -> int:
        is_leaf = root.codec is Codec.RAW
        return len(self.blocks[root]) if is_leaf else parse_node(self.blocks[root]).file_size

    def _below(self, root: Cid) -> list[Cid]:
        found = [root]
        if root.codec is Codec.DAG_PB and root in self.blocks:
            for link in parse_node(self.blocks[root]).links:
                found += self._below(link.cid)
        return found

    def _cut_if_gone(self, request: web.Request) -> None:
        if self.faults.gone:
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError

    # The RPC

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a command."""
        command = request.match_info["command"]
        self.asked.append(command)
        self._cut_if_gone(request)
        if self.faults.frozen:
            await self.released.wait()
        if self.faults.html:
            return web.Response(text=HTML, content_type="text/html")
        if self.authorization is not None and request.headers.get("Authorization") != self.authorization:
            return web.Response(status=403, text="Kubo RPC Access Denied: Please provide a valid authorization token")
        method = getattr(self, "_" + command.replace("/", "_"), None)
        if method is None:
            return web.Response(status=404, text="404 page not found")
        result: web.StreamResponse = await method(request)
        return result

    async def _version(self, request: web.Request) -> web.Response:
        return _json({"Version": self.faults.version, "Commit": "", "Repo": "18"})

    async def _id(self, request: web.Request) -> web.Response:
        port = request.url.port
        return _json({"ID": self.peer_id, "Addresses": [f"/ip4/127.0.0.1/tcp/{port}/p2p/{self.peer_id}"]})

    async def _config(self, request: web.Request) -> web.Response:
        key = request.query["arg"]
        if key != "Addresses.Gateway":
            return _error(f'failed to get config value: "{key} not found"')
        return _json({"Key": key, "Value": f"/ip4/127.0.0.1/tcp/{self.gateway.port}"})

    async def _add(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.faults.reset_adds:
            self.faults.reset_adds -= 1
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        data = _part(body, request.headers["Content-Type"])
        if self.faults.cut_upload and len(data) > 2 * LEAF_BYTES:
            data = data[:LEAF_BYTES]
        if self.faults.full and not _is_true(request, "only-hash"):
            return _error(FULL)
        follows = all(request.query.get(name, "").lower() == value for name, value in _PROFILE.items())
        if self.faults.other_profile or not follows:
            data = b"as another profile has it" + data
        kept = self._root(request, data)
        if not _is_true(request, "only-hash"):
            assert kept == self.keep(data), "only files of the profile are kept here"
        if _is_true(request, "pin", "true"):
            self.pinned[kept] = request.query.get("pin-name", "")
        return _json({"Name": "blob", "Hash": str(kept), "Size": str(len(data))})

    def _root(self, request: web.Request, data: bytes) -> Cid:
        leaf_bytes = int(request.query["chunker"].removeprefix("size-"))
        width = self.faults.links or int(request.query["max-file-links"])
        return root_of(data, leaf_bytes, width, trickle=self.faults.trickle or _is_true(request, "trickle"))

    async def _block_get(self, request: web.Request) -> web.Response:
        cid = Cid.parse(request.query["arg"])
        if _is_true(request, "offline") and cid not in self.blocks:
            return _error(_MISSING.format(cid))
        block = await self._obtain(cid)
        if block is None:  # it is looked for, and nobody has it
            await self.released.wait()
            return _error("context deadline exceeded")
        if cid == self.faults.wrong_leaf:
            block = bytes(len(block))
        return web.Response(body=block, content_type="application/vnd.ipld.raw")

    async def _block_stat(self, request: web.Request) -> web.Response:
        cid = Cid.parse(request.query["arg"])
        await asyncio.sleep(self.faults.stat_s)
        if cid not in self.blocks:
            return _error(_MISSING.format(cid))
        return _json({"Key": str(cid), "Size": len(self.blocks[cid])})

    async def _files_stat(self, request: web.Request) -> web.Response:
        cid = Cid.parse(request.query["arg"].removeprefix("/ipfs/"))
        self.examined.append(cid)
        if cid not in self.blocks:
            return _error(_MISSING.format(cid))
        is_local = all(each in self.blocks for each in self._below(cid))
        return _json({"Hash": str(cid), "Size": self._size(cid), "Type": "file", "Local": is_local})

    async def _pin_ls(self, request: web.Request) -> web.StreamResponse:
        if "arg" in request.query:
            cid = Cid.parse(request.query["arg"])
            if cid not in self.pinned:
                return _error(f"path '/ipfs/{cid}' is not pinned")
            return _json({"Keys": {str(cid): {"Type": "recursive", "Name": self.pinned[cid]}}})
        named = [(cid, name) for cid, name in self.pinned.items() if request.query.get("name", "") in name]
        lines = [json.dumps({"Cid": str(cid), "Name": name, "Type": "recursive"}) for cid, name in named]
        return web.Response(text="".join(f"{line}\n" for line in lines), content_type="application/json")

    async def _pin_add(self, request: web.Request) -> web.StreamResponse:
        cid = Cid.parse(request.query["arg"])
        tells = _is_true(request, "progress")
        if _is_true(request, "offline") and cid not in self.blocks:
            return _error("pin: " + _MISSING.format(cid))
        if self.faults.full and not tells:
            return _error(FULL)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        if tells:
            await answer.write(b'{"Progress":0}\n')
        if self.faults.full:  # which is said in a trailer alone
            return answer
        for each in self._walk(cid):
            if not await self._obtain(each):
                await self.released.wait()
        self.pinned[cid] = request.query.get("name", "")
        await answer.write(json.dumps({"Pins": [str(cid)]}).encode() + b"\n")
        return answer

    async def _pin_rm(self, request: web.Request) -> web.Response:
        cid = Cid.parse(request.query["arg"])
        if cid not in self.pinned:
            return _error("not pinned or pinned indirectly")
        del self.pinned[cid]
        return _json({"Pins": [str(cid)]})

    async def _swarm_peering_ls(self, request: web.Request) -> web.Response:
        peers = [{"ID": peer_id, "Addrs": addresses} for peer_id, addresses in self.peerings.items()]
        return _json({"Peers": peers})

    async def _swarm_peering_add(self, request: web.Request) -> web.Response:
        named = [each.rpartition("/p2p/") for each in request.query.getall("arg")]
        peer_id = named[0][2]
        self.peerings[peer_id] = [address for address, _, _ in named]
        return _json({"ID": peer_id, "Status": "success"})

    async def _swarm_peering_rm(self, request: web.Request) -> web.Response:
        self.peerings.pop(request.query["arg"], None)
        return _json({"ID": request.query["arg"], "Status": "success"})

    # The swarm

    def _walk(self, root: Cid) -> list[Cid]:
        """A file's blocks as far as anybody's nodes say what they are."""
        node = next((each.blocks[root] for each in (self, *self.swarm) if root in each.blocks), None)
        below: list[Cid] = []
        if node is not None and root.codec is Codec.DAG_PB:
            below = [cid for link in parse_node(node).links for cid in self._walk(link.cid)]
        return [root, *below]

    async def _obtain(self, cid: Cid) -> bytes | None:
        """A block, from whoever has it."""
        if cid not in self.blocks:
            for other in self.swarm:
                if cid in other.blocks:
                    await asyncio.sleep(self.faults.swarm_s)
                    self.blocks[cid] = other.blocks[cid]
                    self.from_swarm += len(self.blocks[cid])
                    break
        return self.blocks.get(cid)

    # The gateway

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a path of the gateway."""
        text = request.match_info["cid"]
        self.asked.append(request.path)
        self._cut_if_gone(request)
        if self.faults.frozen:
            await self.released.wait()
        if self.faults.gateway_html:
            return web.Response(text=HTML, content_type="text/html")
        if text == IDENTITY_PROBE:
            return web.Response(headers={"X-Ipfs-Path": request.path})
        cid = Cid.parse(text)
        if request.headers.get("Cache-Control") == "only-if-cached" and cid not in self.blocks:
            return web.Response(status=412, text="412 Precondition Failed")
        if await self._seek(cid) is None:
            return web.Response(status=404 if self.faults.no_fetch else 504, text="not found")
        if request.query.get("format") == "raw":
            block = bytes(len(self.blocks[cid])) if cid == self.faults.wrong_leaf else self.blocks[cid]
            return web.Response(body=block, content_type="application/vnd.ipld.raw")
        return await self._file(request, cid)

    async def _seek(self, cid: Cid) -> bytes | None:
        """A block for its gateway; what nobody has is looked for until it ends, unless it does not look."""
        if self.faults.no_fetch:
            return self.blocks.get(cid)
        block = await self._obtain(cid)
        if block is None:
            await self.released.wait()
        return block

    async def _file(self, request: web.Request, root: Cid) -> web.StreamResponse:
        if self.faults.encoded:
            return web.Response(status=206, body=b"??", headers={"Content-Encoding": "gzip"})
        leaves = self.leaves(root)
        size = self._size(root)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        stop = min(int(found[2]) + 1, size) if found and found[2] else size
        if found and start >= stop:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        answer = web.StreamResponse(status=206 if found else 200, headers={"X-Ipfs-Path": f"/ipfs/{root}"})
        if found:
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        answer.content_length = stop - start
        await answer.prepare(request)
        if request.method != "HEAD":
            await self._send(request, answer, leaves, start, stop)
        return answer

    async def _send(
        self, request: web.Request, answer: web.StreamResponse, leaves: list[Cid], start: int, stop: int
    ) -> None:
        sent = 0
        for index in range(start // LEAF_BYTES, -(-stop // LEAF_BYTES)):
            leaf = await self._seek(leaves[index])
            if leaf is None:
                if request.transport is not None:
                    request.transport.close()
                return
            if leaves[index] == self.faults.wrong_leaf:
                leaf = bytes(len(leaf))
            at = index * LEAF_BYTES
            part = leaf[max(start - at, 0) : stop - at]
            for offset in range(0, len(part), _PIECE):
                await answer.write(part[offset : offset + _PIECE])
                sent += _PIECE
                if self.faults.gone_after is not None and sent >= self.faults.gone_after:
                    self.faults.gone = True
                    raise ConnectionResetError
                if self.faults.slow_behind is not None and sent >= self.faults.slow_behind[0]:
                    await _rest(self.released, _PIECE / self.faults.slow_behind[1])
                if self.faults.freeze_after is not None and sent >= self.faults.freeze_after:
                    self.faults.freeze_after, self.faults.frozen = None, True
                    await self.released.wait()
                if self.faults.gc_after is not None and sent >= self.faults.gc_after:
                    self.faults.gc_after = None
                    self.collect()


async def _rest(released: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(released.wait(), seconds)


def _part(body: bytes, content_type: str) -> bytes:
    """The file of a multipart body; one without its closing boundary is cut short in silence, as Kubo does."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    _, _, rest = body.partition(b"\r\n\r\n")
    return rest.partition(b"\r\n--" + boundary)[0]


def _is_true(request: web.Request, option: str, default: str = "false") -> bool:
    """An option as Go reads it."""
    return request.query.get(option, default).lower() == "true"


def _json(value: Any) -> web.Response:
    return web.Response(text=json.dumps(value) + "\n", content_type="application/json")


def _error(message: str) -> web.Response:
    body = json.dumps({"Message": message, "Code": 0, "Type": "error"})
    return web.Response(status=500, text=body, content_type="application/json")


@asynccontextmanager
async def fake_kubo(kubo: FakeKubo | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeKubo]:
    """Run one, its RPC behind TLS where that is given; leaving ends everything that hangs."""
    kubo = kubo or FakeKubo()
    rpc, gateway = web.Application(client_max_size=1 << 30), web.Application()
    rpc.router.add_post("/api/v0/{command:.*}", kubo.answer)
    gateway.router.add_get("/ipfs/{cid}", kubo.serve)
    kubo.released.clear()
    runners = [web.AppRunner(app, access_log=None, shutdown_timeout=0.1) for app in (rpc, gateway)]
    try:
        urls = []
        for runner, url, context in zip(runners, (kubo.rpc, kubo.gateway), (tls, None), strict=True):
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", url.port or 0, ssl_context=context).start()
            scheme = "https" if context else "http"
            urls.append(URL.build(scheme=scheme, host="127.0.0.1", port=runner.addresses[0][1]))
        kubo.rpc, kubo.gateway = urls
        yield kubo
    finally:
        kubo.released.set()
        for runner in runners:
            await runner.cleanup()
