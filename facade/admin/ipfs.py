"""What `layermesh ipfs` asks for: the node's IPFS network, looked at and used by hand."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from facade.admin.bodies import json_answer, keep_blob, status_of
from facade.admin.status import IpfsReport, ipfs, ipfs_warnings
from facade.gateways import Gateways
from facade.kubo import RunningKubo
from node.cid import Cid
from node.errors import InvalidError, LayermeshError, MismatchError, NotFoundError
from node.holding import Holding
from node.ipfs.contracts import Network, Pin
from node.ipfs.embedded import Embedded
from node.ipfs.unixfs import Given, list_directory, open_by_blocks
from node.naming import Name
from node.reference import Repository
from node.store import Store
from node.traversal import Dags
from node.visibility import Proof, Visibility

log = structlog.get_logger(__name__)
ADDED: Final = Repository("localhost", "ipfs")
"""For whom files are kept that were added by hand; no registry has this name."""
_TELL_S: Final = 1.0
_COUNT_S: Final = 3.0


class Added(msgspec.Struct):
    """A file that is kept. `note` says what keeps it from the network, if something does."""

    digest: str
    cid: str
    size: int
    visibility: str
    note: str | None = None


class Listed(msgspec.Struct):
    """A file that is here, or that the network keeps: its digest and size where it is here.

    `pinned` is `published` for what the node offers, `by hand` for what people pinned, `null` otherwise.
    """

    cid: str
    digest: str | None = None
    size: int | None = None
    visibility: str | None = None
    pinned: str | None = None


class Line(msgspec.Struct, omit_defaults=True):
    """A line of a long answer: something to show, that it goes on, that it is over, or what went wrong and how."""

    file: Listed | None = None
    note: str = ""
    done: bool = False
    error: str = ""
    status: int = 0


class Entry(msgspec.Struct):
    """Something in a directory; `size` is that of all its blocks, as the directory says."""

    name: str
    cid: str
    size: int


class Directory(msgspec.Struct):
    """A directory."""

    cid: str
    entries: list[Entry]


class NetworkReport(msgspec.Struct):
    """The network, and how many files are here, offered to it, and pinned in it by hand; null when it does not say.

    `warnings` are those of `layermesh status` that are about it.
    """

    ipfs: IpfsReport
    gateway: str
    held: int
    published: int | None
    by_hand: int | None
    warnings: list[str]


class IpfsByHand:
    """One method for each path. Blocks come from here, then from the network, then from the gateways."""

    def __init__(self, store: Store, kubo: RunningKubo | None, gateways: Gateways, gateway: str) -> None:
        """`gateway` is the URL of the node's own."""
        self._store = store
        self._here = Embedded(store)
        self._kubo = kubo
        self._network: Network = self._here if kubo is None else kubo.kubo
        self._gateways = gateways
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """The paths below `/api/ipfs`."""
        return [
            web.get("/api/ipfs/status", self.status),
            web.get("/api/ipfs/files", self.files, allow_head=False),
            web.get("/api/ipfs/directory", self.directory),
            web.get("/api/ipfs/file", self.file, allow_head=False),
            web.put("/api/ipfs/file", self.add),
            web.post("/api/ipfs/pin", self.pin),
            web.delete("/api/ipfs/pin", self.unpin),
        ]

    async def status(self, _: web.Request) -> web.Response:
        """How the network is now; it is looked at for this."""
        await self._network.health()
        published = by_hand = None
        with suppress(LayermeshError, TimeoutError):
            async with asyncio.timeout(_COUNT_S):
                found = await self._pins()
            published = sum(pin.digest is not None for pin in found.values())
            by_hand = len(found) - published
        held, warnings = self._store.stats.blobs, ipfs_warnings(self._kubo)
        return json_answer(NetworkReport(ipfs(self._kubo), self._gateway, held, published, by_hand, warnings))

    async def files(self, request: web.Request) -> web.StreamResponse:
        """Everything that is here, and what the network keeps besides, a line of JSON for each."""
        return await _lines(request, self._listed())

    async def directory(self, request: web.Request) -> web.Response:
        """What a directory has."""
        name = await self._named(request)
        entries = await list_directory(self._source(), name)
        return json_answer(Directory(str(name), [Entry(each.name, each.cid, each.tsize) for each in entries]))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a file, or of a part, each of a block that was verified; cut where they end too early."""
        name = await self._named(request)
        start, length = _number(request, "offset") or 0, _number(request, "length")
        stop = None if length is None else start + length
        async with open_by_blocks(self._source(), name, start, stop) as chunks:
            first = await anext(chunks, b"")
            response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
            response.content_type = "application/octet-stream"
            await response.prepare(request)
            try:
                await response.write(first)
                async for chunk in chunks:
                    await response.write(chunk)
            except ConnectionError:
                pass  # nobody reads any more
            except LayermeshError as error:
                log.warning("file cut", cid=str(name), why=str(error))
                if request.transport is not None:
                    request.transport.close()
        return response

    async def add(self, request: web.Request) -> web.Response:
        """Keep a file, for the members of the cluster or for anybody, and offer it to the network."""
        visibility = Visibility.PUBLIC if request.query.get("public") == "true" else Visibility.MEMBERS
        digest = await keep_blob(request, self._store, ADDED, Proof(visibility))
        holding = await self._store.find(digest)
        if holding is None:
            raise NotFoundError(f"{digest}: it was here, and is not any more")
        note = await self._offer(holding)
        return json_answer(Added(str(digest), str(holding.cid), holding.size, holding.visibility, note))

    async def pin(self, request: web.Request) -> web.StreamResponse:
        """Have the network keep a file, fetched from whoever has it; says every second that it goes on."""
        return await _working(request, self._network.pin(_cid(request)))

    async def unpin(self, request: web.Request) -> web.StreamResponse:
        """End that."""
        return await _working(request, self._network.unpin(_cid(request)))

    async def _offer(self, holding: Holding) -> str | None:
        """Offer what anybody may have; why that was not done, else None."""
        if self._kubo is None:
            return None
        if holding.visibility is not Visibility.PUBLIC:
            return "not given to Kubo, which gives what it has to anybody"
        try:
            await self._network.add(holding.digest)
        except LayermeshError as error:
            return f"not published yet: {error}"
        return None

    async def _listed(self) -> AsyncIterator[Line]:
        pins: dict[Cid, Pin] = {}
        try:
            pins = await self._pins()
        except LayermeshError as error:
            yield Line(note=f"what is pinned cannot be told: {error}")
        async with aclosing(self._store.holdings()) as holdings:
            async for held in holdings:
                pinned = _pinned(pins.pop(held.cid, None))
                yield Line(Listed(str(held.cid), str(held.digest), held.size, held.visibility, pinned))
        for root in await self._store.foreign.roots():
            pinned = _pinned(pins.pop(root.cid, None))
            yield Line(Listed(str(root.cid), None, root.size_bytes, root.visibility, pinned))
        for pin in pins.values():
            yield Line(Listed(str(pin.cid), str(pin.digest) if pin.digest else None, pinned=_pinned(pin)))

    async def _pins(self) -> dict[Cid, Pin]:
        async with aclosing(self._network.pins()) as pins:
            return {pin.cid: pin async for pin in pins}

    def _source(self) -> Given:
        return Given(self._block)

    async def _block(self, cid: Cid) -> bytes:
        hidden = False
        try:
            hidden = (await self._store.block(cid)).visibility is not Visibility.PUBLIC
            return await self._here.block(cid)
        except (NotFoundError, MismatchError) as error:
            if hidden:  # it is damaged here, and others must not hear of it
                raise
            trouble: LayermeshError = error
        if self._kubo is not None:
            try:
                return await self._network.block(cid)
            except LayermeshError as error:
                trouble = error
        if (found := await self._gateways.block(cid)) is not None:
            return found
        raise trouble

    async def _named(self, request: web.Request) -> Name:
        """The block that `CID[/PATH]` names."""
        text = request.query.get("cid", "").removeprefix("/ipfs/")
        root, _, path = text.partition("/")
        name = Name.parse(root)
        segments = [segment for segment in path.split("/") if segment]
        return (await Dags(self._source()).resolve(name, segments)).name if segments else name


async def _working(request: web.Request, work: Coroutine[Any, Any, None]) -> web.StreamResponse:
    """Do something that may take long; whoever goes away ends it."""
    task = asyncio.ensure_future(work)
    try:
        return await _lines(request, _waiting(task))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _waiting(task: "asyncio.Task[None]") -> AsyncIterator[Line]:
    while not (await asyncio.wait([task], timeout=_TELL_S))[0]:
        yield Line()
    await task


async def _lines(request: web.Request, lines: AsyncIterator[Line]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": "application/x-ndjson"})
    with suppress(ConnectionError):  # nobody reads any more
        await response.prepare(request)
        try:
            async for line in lines:
                await response.write(_encoded(line))
            await response.write(_encoded(Line(done=True)))
        except LayermeshError as error:
            await response.write(_encoded(Line(error=str(error), status=status_of(error))))
    return response


def _pinned(pin: Pin | None) -> str | None:
    if pin is None:
        return None
    return "by hand" if pin.digest is None else "published"


def _cid(request: web.Request) -> Cid:
    return Cid.parse(request.query.get("cid", "").removeprefix("/ipfs/"))


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidError(f"{name}: a number is expected")
    return None if text is None else int(text)


def _encoded(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"
