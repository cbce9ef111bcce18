"""Blobs of mirrored repositories, answered from this disk, from a flight, or passed through from upstream."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, closing, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from aiohttp import web

from cluster.cluster import Cluster
from facade.background import Background
from facade.flight import Flight, Reader
from facade.flights import BlobUpstream, Flights
from facade.metrics import Metrics
from facade.neighbours import Neighbours
from facade.registry.ahead import Ahead
from facade.registry.passing import Outlet, cut, pass_on, send_file, send_through
from facade.registry.requests import Asked, Form
from facade.registry.suspicion import Suspicion
from facade.settings import Waits
from facade.sources import SourceName
from facade.upstream.client import Passage
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import CLIENT
from node.catalog import Visibility
from node.digest import Digest
from node.errors import (
    DeniedError,
    FullError,
    LayermeshError,
    MismatchError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from node.http import FileRange, parse_range
from node.manifest import Manifest
from node.reference import Repository
from node.source import Wanted
from node.store import Store

log = structlog.get_logger(__name__)
NEAR_BYTES = 4 * 1024 * 1024
"""A range that starts no further ahead of a flight waits for it; one further ahead is passed through from upstream."""


class PassingUpstream(BlobUpstream, Protocol):
    """The registries behind us, for blobs that are passed on without being kept."""

    def config(self, namespace: str) -> UpstreamConfig: ...

    async def blob_size(self, repository: Repository, digest: Digest, expected: int | None = None) -> int: ...

    def passthrough(
        self, repository: Repository, digest: Digest, range_header: str
    ) -> AbstractAsyncContextManager[Passage]: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a blob before its bytes: its size where a descriptor or upstream told it, and if it is here."""

    size: int | None
    here: bool
    is_open: bool
    """Whether what is fetched for this repository may be had by anybody."""


def _same_question(flight: Flight, asked: Asked | Wanted) -> bool:
    """Whether upstream is asked by a flight as it would be for this client."""
    return flight.wanted.repository == asked.repository and flight.login == CLIENT.get()


class Blobs:
    """Answers GET and HEAD for one blob."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        upstream: PassingUpstream,
        flights: Flights,
        background: Background,
        waits: Waits,
        metrics: Metrics,
    ) -> None:
        self._background = background
        self._suspicion = Suspicion(time.monotonic)
        self._ahead = Ahead(time.monotonic)
        self._store = store
        self._neighbours = Neighbours(store, cluster)
        self._upstream = upstream
        self._flights = flights
        self._waits = waits
        self._metrics = metrics

    async def answer(self, request: web.BaseRequest, asked: Asked, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer the request; `headers` go with every answer.

        Raises:
            LayermeshError: before any header was sent, when the blob cannot be had.
        """
        known = await self._known(asked)
        if request.method == "HEAD":
            return await self._head(asked, known, headers)
        try:
            return await self._body(request, asked, known, headers)
        except NotFoundError as error:
            if asked.form is not Form.OWN:
                raise
            raise UnreachableError(f"{asked.digest}: no member gives it now: {error}") from None

    async def _body(
        self, request: web.BaseRequest, asked: Asked, known: _Known, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        if known.here:
            self._go_ahead(request, asked)
            try:
                return await self._from_disk(request, asked.digest, headers)
            except NotFoundError:
                log.warning("blob damaged or gone, fetching it again", digest=str(asked.digest))
        wanted = Wanted(asked.repository, asked.digest, known.size)
        joined = self._flights.current(wanted)
        flight = joined or self._flights.start(wanted, is_open=known.is_open)
        came_late = flight.upstream_failed
        if self._is_ahead(request, flight):
            try:
                return await self._pass_range(request, wanted, headers)
            except (NotFoundError, DeniedError, UnreachableError) as error:
                log.info("range not passed through", digest=str(asked.digest), why=str(error))
        try:
            return await self._from_flight(request, asked, flight, joined is not None, headers)
        except FullError:
            if asked.form is Form.OWN:
                raise  # no upstream has it that could be passed through
            log.warning("disk full: passing through without keeping", digest=str(asked.digest))
            return await self._pass_through(request, replace(wanted, size=flight.size), headers)
        except (NotFoundError, DeniedError, UnreachableError, MismatchError):
            if joined is None or (_same_question(joined, asked) and not came_late):
                raise
            # a failure of another repository or login, or one from before this request, is not ours
            return await self._from_flight(request, asked, self._own_flight(wanted, known), False, headers)

    def _own_flight(self, wanted: Wanted, known: _Known) -> Flight:
        """A flight for the same repository; one for all that saw the last one fail."""
        flight = self._flights.current(wanted)
        if flight is None or not _same_question(flight, wanted):
            flight = self._flights.start(wanted, is_open=known.is_open)
        return flight

    async def here(self, asked: Asked) -> bool:
        """Whether a blob of the repository is on this disk. Raises as `flight`."""
        return (await self._known(asked)).here

    async def flight(self, asked: Asked) -> Flight | None:
        """The flight that brings a blob here, joined or begun now; None when it is here.

        Raises:
            LayermeshError: when it is none of the repository's, as far as this node and upstream know.
        """
        known = await self._known(asked)
        if known.here:
            return None
        wanted = Wanted(asked.repository, asked.digest, known.size)
        return self._flights.current(wanted) or self._flights.start(wanted, is_open=known.is_open)

    def served(self, repository: Repository, manifest: Manifest) -> None:
        """A client has been given this manifest, and may ask for its blobs."""
        self._ahead.served(repository, manifest)

    def _go_ahead(self, request: web.BaseRequest, asked: Asked) -> None:
        """Fetch the layer behind one that a client takes whole; beside the answer, whose first bytes go before."""
        if "Range" in request.headers:
            return
        if (behind := self._ahead.begin(asked.repository, asked.digest)) is not None:
            self._background.start(self._fetch_ahead(replace(asked, selector=behind)), f"fetch {behind} ahead")

    async def _fetch_ahead(self, asked: Asked) -> None:
        try:
            known = await self._known(asked)
        except LayermeshError as error:
            log.debug("not fetched ahead", digest=str(asked.digest), why=str(error))
            return
        wanted = Wanted(asked.repository, asked.digest, known.size)
        if known.here or known.size is None:
            return
        room = await self._store.room()
        if await self._store.find(asked.digest) is not None:  # a client asked for it meanwhile, and it has landed
            return
        if self._flights.current(wanted) is None and self._flights.missing_bytes + known.size <= room:
            self._flights.start(wanted, is_open=known.is_open)

    async def _known(self, asked: Asked) -> _Known:
        """Check that the blob belongs to the repository, or that anybody may read it.

        Raises:
            NotFoundError: when it does not, as far as this node and upstream know.
        """
        if asked.form is Form.OWN:
            return await self._own(asked)
        repositories = self._store.repositories
        link = await repositories.link(asked.repository, asked.digest)
        holding = await self._store.find(asked.digest)
        is_open = self._upstream.config(asked.repository.namespace).access is Access.REFUSE
        if link is not None:
            is_open = is_open or link.visibility is Visibility.PUBLIC
            if holding is None:
                return _Known(link.size, here=False, is_open=is_open)
        if holding is not None:
            is_public = holding.visibility is Visibility.PUBLIC
            if is_public or (link is not None and await repositories.confirmed(asked.repository, asked.digest)):
                return _Known(holding.size, here=True, is_open=is_open)
            if link is not None and await self._is_lent(asked):  # as if it were not here: upstream may know no login
                return _Known(link.size, here=False, is_open=is_open)
        return await self._asked_upstream(asked, is_open)

    async def _is_lent(self, asked: Asked) -> bool:
        """Whether members share the blob as content of this very repository."""
        holders = await self._neighbours.holders(asked.repository, asked.digest)
        return any(holder.visibility is Visibility.SHARED for holder in holders)

    async def _own(self, asked: Asked) -> _Known:
        """A blob of an own repository: here, or with another member.

        What is private here was not pushed here. That somebody says that it belongs to an own repository opens nothing:
        another member has to give the bytes.
        """
        content = await self._store.owned.blob(asked.repository.name, asked.digest)
        if content is None:
            raise NotFoundError(f"{asked.digest}: {asked.repository.name} has no such blob")
        holding = await self._store.find(asked.digest)
        here = holding is not None and not holding.visibility.hidden
        return _Known(content.size, here=here, is_open=False)

    async def _asked_upstream(self, asked: Asked, is_open: bool) -> _Known:
        """Only the client names this digest, or a link that nothing confirmed: upstream knows if it is there."""
        try:
            async with asyncio.timeout(min(self._waits.answer_s, self._silent_s(asked))):
                size = await self._upstream.blob_size(asked.repository, asked.digest)
        except (UnreachableError, TimeoutError) as error:
            holders = await self._neighbours.holders(asked.repository, asked.digest)
            if isinstance(error, ThrottledError) and not holders:
                raise
            if holders:
                return _Known(None, here=False, is_open=is_open)
            raise UnreachableError(f"{asked.digest}: {error or 'upstream gives no answer'}") from None
        return _Known(size, here=False, is_open=is_open)  # a word opens nothing that is hidden here: the bytes do

    def _silent_s(self, asked: Asked) -> float:
        return self._waits.silent_s(is_mirror=asked.form is Form.MIRROR)

    async def _head(self, asked: Asked, known: _Known, headers: Mapping[str, str]) -> web.StreamResponse:
        size, is_away = known.size, asked.form is Form.OWN and not known.here
        ask = size is None or is_away
        holders = await self._neighbours.holders(asked.repository, asked.digest) if ask else ()
        if size is None:  # a stranger's claim is no answer
            size = next((each.size for each in holders if each.member), None)
        if size is None:
            raise UnreachableError(f"{asked.digest}: upstream cannot say how long it is")
        if is_away and not holders:
            raise NotFoundError(f"{asked.digest}: the members that have it are away: push it again")
        elsewhere = SourceName.PEER if asked.form is Form.OWN else SourceName.UPSTREAM
        source = SourceName.LOCAL if known.here else elsewhere
        more = {"Layermesh-Source": source, "Accept-Ranges": "bytes", "Content-Length": str(size)}
        return web.Response(headers={**headers, **more})

    async def _from_disk(
        self, request: web.BaseRequest, digest: Digest, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        await self._check_if_doubted(digest)
        async with self._store.read(digest) as blob:
            wanted = parse_range(request.headers.get("Range"), blob.size)
            named = {**headers, "Layermesh-Source": SourceName.LOCAL}
            response = FileRange(blob, blob.size, wanted=wanted, headers=named)
            await response.prepare(request)
            self._metrics.served(SourceName.LOCAL, response.sent)
            if wanted is None:
                self._suspicion.served(digest)
            return response

    async def _check_if_doubted(self, digest: Digest) -> None:
        """Verify first what a runtime asks for again; a check that takes long goes on beside the answer."""
        if not self._suspicion.doubted(digest):
            return
        found = self._background.start(self._check(digest), f"check {digest}")
        await asyncio.wait([found], timeout=self._waits.fallback_s)

    async def _check(self, digest: Digest) -> None:
        with suppress(NotFoundError):  # dropped, and logged where it was found
            await self._store.check(digest)

    def _is_ahead(self, request: web.BaseRequest, flight: Flight) -> bool:
        """Whether a Range asks for bytes that the flight will reach late, while upstream could give them now."""
        if "Range" not in request.headers or flight.size is None:
            return False
        span = parse_range(request.headers["Range"], flight.size)
        available = self._upstream.available(flight.wanted.repository.namespace)
        return available and span is not None and span.start > flight.prefix + NEAR_BYTES

    async def _pass_range(
        self, request: web.BaseRequest, wanted: Wanted, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """A part, which nobody can verify; a whole that comes in its place is verified."""
        part = request.headers["Range"]
        async with self._upstream.passthrough(wanted.repository, wanted.digest, part) as passage:
            if passage.status != 200:
                return await pass_on(request, passage, headers, self._metrics)
        return await self._pass_whole(request, wanted, headers)

    async def _pass_whole(
        self, request: web.BaseRequest, wanted: Wanted, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Layermesh-Source": SourceName.UPSTREAM})
        await send_through(request, Outlet(request, response, wanted, self._metrics), wanted, self._upstream)
        return response

    async def _pass_through(
        self, request: web.BaseRequest, wanted: Wanted, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Without room to keep it: a part as it comes, the whole verified as it passes."""
        size = wanted.size
        part = None if size is None else parse_range(request.headers.get("Range"), size)
        if part is None or len(part) == size:
            return await self._pass_whole(request, wanted, headers)
        return await self._pass_range(request, wanted, headers)

    async def _from_flight(
        self, request: web.BaseRequest, asked: Asked, flight: Flight, joined: bool, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        size = await flight.ready(self._waits.patience_s, self._silent_s(asked))
        self._go_ahead(request, asked)
        wanted = parse_range(request.headers.get("Range"), size)
        span = range(size) if wanted is None else wanted
        source = SourceName.FLIGHT if joined else flight.source or SourceName.UPSTREAM
        response = web.StreamResponse(
            status=200 if wanted is None else 206, headers={**headers, "Layermesh-Source": source}
        )
        response.content_length = len(span)
        if wanted is not None:
            response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        with closing(flight.reader()) as reader:
            if span.start:  # no headers before there is something to send behind them
                await reader.beyond(span.start, self._waits.patience_s)
            await response.prepare(request)
            try:
                await self._copy(request, response, flight, reader, span)
            except (LayermeshError, ConnectionError) as error:
                log.info("body cut", digest=str(flight.wanted.digest), why=str(error))
                cut(request)
        return response

    async def _copy(
        self, request: web.BaseRequest, response: web.StreamResponse, flight: Flight, reader: Reader, span: range
    ) -> None:
        position = span.start
        source = response.headers["Layermesh-Source"]
        try:
            while position < span.stop:
                until = min(span.stop, await reader.beyond(position, self._waits.progress_s))
                if head := reader.head(position, until):
                    until = position + len(head)
                    await response.write(head)
                else:
                    await send_file(request, response, reader, position, until - position)
                self._metrics.served(source, until - position)
                position = until
        except FullError:
            if span.stop != flight.size:
                raise
            log.warning("disk full in the middle: going on without keeping", digest=str(flight.wanted.digest))
            wanted = replace(flight.wanted, size=flight.size)
            outlet = Outlet(request, response, wanted, self._metrics)
            await outlet.skip(reader, position)
            await send_through(request, outlet, wanted, self._upstream)
            return
        await response.write_eof()
