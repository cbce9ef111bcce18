"""Bodies of the admin listener, both ways: JSON, blobs as they come, and what each error is as a status."""

from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec
from aiohttp import ClientError, web

from node.digest import Digest
from node.errors import DeniedError, InvalidError, LayermeshError, NotFoundError
from node.reference import Repository
from node.source import Wanted
from node.store import Store
from node.visibility import Proof

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MOST_JSON_BYTES: Final = 8 * 1024 * 1024
_MOST_BLOB_BYTES: Final = 1 << 40
_STATUS: Final = ((InvalidError, 400), (DeniedError, 403), (NotFoundError, 404), (LayermeshError, 503))
_Asked = TypeVar("_Asked", bound=msgspec.Struct)


def status_of(error: LayermeshError) -> int:
    """The HTTP status that tells an error."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def json_answer(value: object) -> web.Response:
    """200, with a value as JSON."""
    return web.Response(body=msgspec.json.encode(value), headers=HEADERS, content_type="application/json")


async def read_json(request: web.Request, kind: type[_Asked]) -> _Asked:
    """What a body of at most 8 MiB says.

    Raises:
        InvalidError: when it is longer, breaks off, or is not of this kind.
    """
    body = bytearray()
    async for piece in _pieces(request):
        body += piece
        if len(body) > _MOST_JSON_BYTES:
            raise InvalidError(f"the body has more than {_MOST_JSON_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"the body: {error}") from None


async def keep_blob(request: web.Request, store: Store, repository: Repository, proof: Proof | None = None) -> Digest:
    """Keep a body as a blob that came from `repository`, under the digest of the query; durable once this returns.

    Raises:
        InvalidError: when it does not say how long it is, or breaks off.
        MismatchError: when it is something else than its digest says.
        FullError: when the disk has no room.
    """
    digest, size = Digest.parse(request.query.get("digest", "")), request.content_length
    if size is None or size > _MOST_BLOB_BYTES:
        raise InvalidError(f"{digest}: a Content-Length of at most {_MOST_BLOB_BYTES} is expected")
    async with store.ingest(Wanted(repository, digest, size)) as ingest:
        offset = 0
        async for piece in _pieces(request):
            await ingest.write(offset, piece)
            offset += len(piece)
        await ingest.commit(proof)
    await store.sync(digest)
    return digest


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    try:
        while piece := await request.content.readany():
            yield piece
    except ClientError as error:
        raise InvalidError(f"the body broke off: {error}") from None
