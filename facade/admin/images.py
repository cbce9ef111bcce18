"""What `layermesh export` and `import` ask for: images by name, their blobs and DAGs, and to enter what was brought."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec
from aiohttp import web

from facade.admin.asked import parse_brought, parse_named
from facade.admin.bodies import json_answer, read_json, status_of
from facade.flight import Flight
from facade.images.keeping import VerifiedParts, keep_root
from facade.registry.admitting import Admitting, Brought
from facade.registry.images import Images
from facade.settings import Address
from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, InvalidError, LayermeshError, NotFoundError, UnreachableError
from node.foreign import Part, Whole
from node.http import FileRange, parse_range
from node.layout import ImageName
from node.manifest import Manifest
from node.reference import OWN, Reference, Repository, Tag
from node.store import Store
from node.visibility import Proof, Visibility

AT_ONCE: Final = 3
"""So many blobs are fetched at the same time, as runtimes do."""
_TELL_S: Final = 0.3


class ManifestReport(msgspec.Struct):
    """A manifest, and the repository and tag that it was found by."""

    namespace: str
    repository: str
    tag: str | None
    media_type: str
    digest: str
    data: bytes


class DagReport(msgspec.Struct):
    """A blob's leaf hashes (sha2-256, 32 bytes each), from which its DAG is built."""

    size: int
    leaves: bytes


class BlobsAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Blobs of a repository."""

    namespace: str
    repository: str
    digests: list[str]


class Progress(msgspec.Struct, omit_defaults=True):
    """How many bytes of what was missing are here by now; the last line says `done`, or what went wrong and how."""

    received: int
    done: bool = False
    error: str = ""
    status: int = 0


class Sizes(msgspec.Struct, forbid_unknown_fields=True):
    """Some blobs by their digests, and how long they are said to be."""

    sizes: dict[str, int]


class Digests(msgspec.Struct):
    """Some blobs."""

    digests: list[str]


class BroughtLine(msgspec.Struct, forbid_unknown_fields=True):
    """An image that is to be entered: the name it is to be known by, and its manifest."""

    name: str
    digest: str
    media_type: str = ""


class ImagesBrought(msgspec.Struct, forbid_unknown_fields=True):
    """Images whose bytes are here, or, with `checked`, that are asked about before any byte is sent."""

    images: list[BroughtLine]
    public: bool = False
    checked: bool = False


class Names(msgspec.Struct):
    """What images are known by, as layouts have it, in the order in which they were named, and the layout's root."""

    names: list[str]
    root: str | None = None


class BlockLine(msgspec.Struct, forbid_unknown_fields=True):
    """A block by its CID (36 bytes): `data`, or `length` bytes of the blob `within` from `offset` on."""

    cid: bytes
    data: bytes = b""
    within: str | None = None
    offset: int = 0
    length: int = 0


class ForeignBlocks(msgspec.Struct, forbid_unknown_fields=True):
    """Some blocks of a layout as it was brought; with `whole`, the last ones."""

    root: bytes
    blocks: list[BlockLine]
    public: bool = False
    whole: bool = False


class WholeImages:
    """One method for each path."""

    def __init__(self, store: Store, images: Images, admitting: Admitting, facade: Address) -> None:
        self._store = store
        self._images = images
        self._admitting = admitting
        self._facade = facade

    def routes(self) -> list[web.RouteDef]:
        """The paths below `/api/images`."""
        return [
            web.get("/api/images/named", self.named),
            web.get("/api/images/manifest", self.manifest),
            web.post("/api/images/fetch", self.fetch),
            web.get("/api/images/dag", self.dag),
            web.get("/api/images/blob", self.blob, allow_head=False),
            web.post("/api/images/lacking", self.lacking),
            web.post("/api/images/admit", self.admit),
            web.post("/api/images/blocks", self.blocks),
        ]

    async def named(self, request: web.Request) -> web.Response:
        """The manifest of an image as people write it."""
        text = request.query.get("ref", "")
        reference = parse_named(text, self._facade)
        if isinstance(reference, Digest):
            raise InvalidError(f"{text}: an image reference is expected; with a digest, NAME@DIGEST")
        repository, selector = reference.repository, reference.selector
        try:
            found = await self._images.manifest(repository, selector)
        except (NotFoundError, DeniedError, UnreachableError) as error:
            if hint := await self._hint(reference):
                raise NotFoundError(f"{text}: {error}; {hint}") from None
            kind = next(kind for kind in (NotFoundError, DeniedError, UnreachableError) if isinstance(error, kind))
            raise kind(f"{text}: {error}") from None
        return json_answer(_report(repository, selector if isinstance(selector, Tag) else None, found))

    async def manifest(self, request: web.Request) -> web.Response:
        """A manifest of a repository by its digest."""
        repository, digest = _repository(request), Digest.parse(request.query.get("digest", ""))
        return json_answer(_report(repository, None, await self._images.manifest(repository, digest)))

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """Have blobs of a repository here; tells how it goes on, a line of JSON at a time."""
        asked = await read_json(request, BlobsAsked)
        repository = Repository.parse(asked.namespace, asked.repository)
        digests = [Digest.parse(text) for text in asked.digests]
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        fetching = _Fetching(self._images, repository, digests)
        task = asyncio.create_task(fetching.run())
        try:
            while not (await asyncio.wait([task], timeout=_TELL_S))[0]:
                await response.write(_line(Progress(fetching.received)))
            await response.write(_line(_outcome(task, fetching.received)))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return response

    async def dag(self, request: web.Request) -> web.Response:
        """The leaf hashes of a blob that is here."""
        repository, digest = _repository(request), Digest.parse(request.query.get("digest", ""))
        await self._images.require(repository, digest)
        dag = await self._store.dag(digest)
        if dag is None:
            raise NotFoundError(f"{digest}: it is not here any more")
        return json_answer(DagReport(dag.size, dag.leaves))

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a blob that is here, or of a part."""
        repository, digest = _repository(request), Digest.parse(request.query.get("digest", ""))
        await self._images.require(repository, digest)
        async with self._store.read(digest) as blob:
            response = FileRange(blob, blob.size, wanted=parse_range(request.headers.get("Range"), blob.size))
            await response.prepare(request)
            return response

    async def lacking(self, request: web.Request) -> web.Response:
        """Those of some blobs whose bytes have to be brought before an image that names them is entered."""
        asked = await read_json(request, Sizes)
        lacking = await self._admitting.lacking({Digest.parse(text): size for text, size in asked.sizes.items()})
        return json_answer(Digests([str(digest) for digest in lacking]))

    async def admit(self, request: web.Request) -> web.Response:
        """Enter images, each whole or not at all."""
        asked = await read_json(request, ImagesBrought)
        images = [self._brought(line) for line in asked.images]
        for image in images:
            await self._admitting.check(image)
        visibility = Visibility.PUBLIC if asked.public else Visibility.MEMBERS
        names = [str(ImageName(image.repository, image.tag)) for image in images]
        if asked.checked:
            return json_answer(Names(names))
        held = [await self._admitting.admit(image, visibility) for image in images]
        return json_answer(Names(names, str(await keep_root(self._store, held, visibility))))

    async def blocks(self, request: web.Request) -> web.Response:
        """Keep the blocks of a layout whose images were entered, by its own root."""
        asked = await read_json(request, ForeignBlocks)
        root = Cid.from_raw(asked.root)
        visibility = Visibility.PUBLIC if asked.public else Visibility.MEMBERS
        async with AsyncExitStack() as stack:
            parts = VerifiedParts(self._store, stack, visibility)
            blocks = [await _block(line, parts) for line in asked.blocks]
        await self._store.foreign.keep(root, blocks)
        if asked.whole:
            await self._store.foreign.finish(root, Proof(visibility))
        return json_answer({"kept": len(blocks)})

    def _brought(self, line: BroughtLine) -> Brought:
        name = parse_brought(line.name, self._facade)
        return Brought(name.repository, name.tag, Digest.parse(line.digest), line.media_type)

    async def _hint(self, reference: Reference) -> str:
        """How an own repository of this name is asked for, where it has the tag: people leave the address out."""
        name, selector = reference.repository.name.removeprefix("library/"), reference.selector
        if reference.repository.namespace == OWN or not isinstance(selector, Tag):
            return ""
        known = await self._store.owned.tag(name, selector)
        return f"the cluster's own is asked for as {self._facade}/{name}:{selector}" if known else ""


class _Fetching:
    """Has blobs fetched, some at a time, and counts what came."""

    def __init__(self, images: Images, repository: Repository, digests: Sequence[Digest]) -> None:
        self._images = images
        self._repository = repository
        self._digests = digests
        self._flights: set[Flight] = set()
        self._landed = 0

    @property
    def received(self) -> int:
        """Bytes that came since this began."""
        return self._landed + sum(flight.received for flight in self._flights)

    async def run(self) -> None:
        """Fetch all of them; the first that cannot be had ends it, and what flies goes on."""
        limit = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for digest in self._digests:
                group.create_task(self._fetch(digest, limit))

    async def _fetch(self, digest: Digest, limit: asyncio.Semaphore) -> None:
        async with limit:
            flight = await self._images.flight(self._repository, digest)
            if flight is None:
                return
            self._flights.add(flight)
            await flight.over()
            self._flights.discard(flight)
            self._landed += flight.received
            await self._images.require(self._repository, digest)


async def _block(line: BlockLine, parts: VerifiedParts) -> Whole | Part:
    cid = Cid.from_raw(line.cid)
    if line.within is None:
        return Whole(cid, line.data)
    return await parts.verified(Part(cid, Digest.parse(line.within), line.offset, line.length))


def _outcome(task: asyncio.Task[None], received: int) -> Progress:
    error: BaseException | None = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return Progress(received, done=True)
    if not isinstance(error, LayermeshError):
        raise error
    return Progress(received, error=str(error), status=status_of(error))


def _repository(request: web.Request) -> Repository:
    return Repository.parse(request.query.get("namespace", ""), request.query.get("repository", ""))


def _report(repository: Repository, tag: Tag | None, found: Manifest) -> ManifestReport:
    text = tag.text if tag else None
    return ManifestReport(repository.namespace, repository.name, text, found.media_type, str(found.digest), found.data)


def _line(progress: Progress) -> bytes:
    return msgspec.json.encode(progress) + b"\n"
