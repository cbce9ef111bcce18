"""What `layermesh backup` and `restore` ask for: the records and bytes of own repositories."""

from typing import Final

import msgspec
from aiohttp import web

from facade.admin.bodies import json_answer, keep_blob, read_json
from facade.registry.near import Bringing
from node.digest import Digest
from node.errors import InvalidError, NotFoundError, UnreachableError
from node.http import FileRange
from node.records import RESTORED, Content, Kind, Record
from node.reference import OWN, Repository, Tag
from node.store import Store

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
        return json_answer(Page([_line(record) for record in records], following))

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
        await keep_blob(request, self._store, _RESTORED)
        return json_answer({"size": request.content_length})

    async def restore(self, request: web.Request) -> web.Response:
        """Enter records whose blobs are here, as if they were pushed now."""
        page = await read_json(request, Page)
        records = [_record(line) for line in page.records]
        needed = {each.content.digest for each in records if each.content and each.kind is not Kind.TAG}
        if missing := await self._store.missing(sorted(needed, key=str)):
            raise NotFoundError(f"{sorted(map(str, missing))[0]}: its bytes are to be restored before what names them")
        return json_answer({"restored": await self._store.owned.restore(records)})


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
