"""What `layermesh backup` and `restore` ask for: the records and bytes of own repositories."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from aiohttp import ClientError, web

from facade.registry.near import Bringing
from node.digest import Digest
from node.errors import InvalidError, NotFoundError, UnreachableError
from node.http import FileRange
from node.records import RESTORED, Content, Kind, Record
from node.reference import OWN, Repository, Tag
from node.source import Wanted
from node.store import Store

MOST_BODY_BYTES: Final = 8 * 1024 * 1024
MOST_BLOB_BYTES: Final = 1 << 40
_RESTORED: Final = Repository(OWN, RESTORED)


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A record as a backup has it."""

    repository: str
    kind: Kind
    name: str
    digest: str
    size: int
    media_type: str = ""
    artifact_type: str = ""
    subject: str | None = None


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """Some records, and from where to go on; None when these were the last."""

    records: list[Line]
    next: int | None = None


class OwnRepositories:
    """Reads and writes own repositories whole."""

    def __init__(self, store: Store, bringing: Bringing) -> None:
        self._store = store
        self._bringing = bringing

    async def records(self, request: web.Request) -> web.Response:
        """The records after a number."""
        text = request.query.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise InvalidError("after: a number is expected")
        records, following = await self._store.owned.page(int(text))
        return _json(Page([_line(record) for record in records], following))

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """A blob's bytes, fetched from other members first where it is not here.

        Raises:
            UnreachableError: when the members that have it are away.
        """
        digest = Digest.parse(request.query.get("digest", ""))
        names = await self._store.owned.having(digest)
        if not names:
            raise NotFoundError(f"{digest}: no own repository has it")
        try:
            await self._bringing.bring(Repository(OWN, names[0]), (digest,))
        except NotFoundError as error:
            raise UnreachableError(str(error)) from None
        async with self._store.read(digest) as blob:
            response = FileRange(blob, blob.size)
            await response.prepare(request)
            return response

    async def put_blob(self, request: web.Request) -> web.Response:
        """Keep a blob of a backup, unless it is here."""
        digest = Digest.parse(request.query.get("digest", ""))
        size = request.content_length
        if size is None or size > MOST_BLOB_BYTES:
            raise InvalidError(f"{digest}: a Content-Length of at most {MOST_BLOB_BYTES} is expected")
        async with self._store.ingest(Wanted(_RESTORED, digest, size)) as ingest:
            offset = 0
            async for piece in pieces(request):
                await ingest.write(offset, piece)
                offset += len(piece)
            await ingest.commit()
        await self._store.sync(digest)
        return _json({"size": size})

    async def restore(self, request: web.Request) -> web.Response:
        """Enter records whose blobs are here, as if they were pushed now."""
        body = bytearray()
        async for piece in pieces(request):
            body += piece
            if len(body) > MOST_BODY_BYTES:
                raise InvalidError(f"records: at most {MOST_BODY_BYTES} bytes at once")
        try:
            page = msgspec.json.decode(body, type=Page)
        except msgspec.DecodeError as error:
            raise InvalidError(f"records: {error}") from None
        records = [_record(line) for line in page.records]
        needed = {each.content.digest for each in records if each.content and each.kind is not Kind.TAG}
        if missing := await self._store.missing(sorted(needed, key=str)):
            raise NotFoundError(f"{sorted(map(str, missing))[0]}: its bytes are to be restored before what names them")
        return _json({"restored": await self._store.owned.restore(records)})


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """A body as it comes.

    Raises:
        InvalidError: when it breaks off.
    """
    try:
        while piece := await request.content.readany():
            yield piece
    except ClientError as error:
        raise InvalidError(f"the body broke off: {error}") from None


def _line(record: Record) -> Line:
    content = record.content
    assert content is not None, "what was deleted is in no backup"
    subject = str(content.subject) if content.subject else None
    return Line(
        record.repository,
        record.kind,
        record.name,
        str(content.digest),
        content.size,
        content.media_type,
        content.artifact_type,
        subject,
    )


def _record(line: Line) -> Record:
    """Check what a backup says.

    Raises:
        InvalidError: when a part of it is malformed.
    """
    digest = Digest.parse(line.digest)
    name = Tag.parse(line.name).text if line.kind is Kind.TAG else str(digest)
    if name != line.name or line.size < 0:
        raise InvalidError(f"records: {line.kind} {line.name[:100]!r} of {line.repository[:100]!r} contradicts itself")
    subject = Digest.parse(line.subject) if line.subject else None
    content = Content(digest, line.size, line.media_type, line.artifact_type, subject)
    return Record(Repository.parse(OWN, line.repository).name, line.kind, name, content, 0, "")


def _json(value: object) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=msgspec.json.encode(value), headers=headers, content_type="application/json")
