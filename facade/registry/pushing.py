"""Pushing to own repositories, and deleting from them (OCI distribution specification 1.1, "Push" and "Content
Management"): `201` is answered when what was pushed survives a loss of power.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import structlog
from aiohttp import ClientError, web

from cluster.cluster import Cluster
from facade.registry.access import Action
from facade.registry.expecting import invite_body
from facade.registry.gate import Gate
from facade.registry.naming import Naming
from facade.registry.near import Bringing
from facade.registry.problems import Problem
from facade.registry.requests import Asked, Route
from node.catalog import Visibility
from node.digest import Algorithm, Digest
from node.errors import FullError, InvalidError, MismatchError, NotFoundError, ThrottledError
from node.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from node.owned import MissingError
from node.reference import OWN, Repository, Tag
from node.repositories import Proof
from node.store import Store
from node.uploads import TakenOverError, Upload

log = structlog.get_logger(__name__)
STALL_S: Final = 60.0
"""A client that sends nothing for so long is cut; what came stays, to be gone on with."""
MOST_TAGS: Final = 64
MEDIA_TYPE: Final = re.compile(r"[ -~]{0,255}")
_SPAN: Final = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?")
Answering = Callable[[web.BaseRequest, Asked], Awaitable[web.Response]]


class Pushing:
    """Answers requests that change own repositories."""

    def __init__(
        self, store: Store, cluster: Cluster, bringing: Bringing, gate: Gate, stall_s: float = STALL_S
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._bringing = bringing
        self._naming = Naming(store, bringing)
        self._gate = gate
        self._owned = store.owned
        self._uploads = store.uploads
        self._stall_s = stall_s
        self._answers: Mapping[tuple[str, Route], Answering] = {
            ("POST", Route.UPLOAD): self._begin,
            ("PATCH", Route.UPLOAD): self._append,
            ("PUT", Route.UPLOAD): self._finish,
            ("GET", Route.UPLOAD): self._tell,
            ("HEAD", Route.UPLOAD): self._tell,
            ("DELETE", Route.UPLOAD): self._cancel,
            ("PUT", Route.MANIFEST): self._manifest,
            ("DELETE", Route.MANIFEST): self._delete,
            ("DELETE", Route.BLOB): self._delete_blob,
        }

    def methods(self, asked: Asked) -> tuple[str, ...]:
        """The methods that are answered here: a new upload is begun by POST, which one that is there does not take."""
        methods = tuple(method for method, route in self._answers if route is asked.route)
        if asked.route is Route.UPLOAD:
            return tuple(method for method in methods if (method == "POST") is not bool(asked.upload))
        return methods

    async def answer(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        """Answer a request by one of `methods`.

        Raises:
            Problem: with the specification's error code.
            ConnectionError: when the client went away in the middle.
        """
        try:
            return await self._answers[request.method, asked.route](request, asked)
        except MissingError as error:
            raise Problem(404, "MANIFEST_BLOB_UNKNOWN", str(error)) from None
        except NotFoundError as error:
            raise Problem(404, _UNKNOWN[asked.route], str(error)) from None
        except TakenOverError as error:
            raise Problem(409, "BLOB_UPLOAD_INVALID", str(error)) from None
        except MismatchError as error:
            raise Problem(400, "DIGEST_INVALID", str(error)) from None
        except InvalidError as error:
            raise Problem(400, "MANIFEST_INVALID", str(error)) from None
        except ThrottledError as error:
            raise Problem(429, "TOOMANYREQUESTS", str(error), {"Retry-After": "60"}) from None
        except FullError as error:
            log.warning("push refused", repository=str(asked.repository), why=str(error))
            raise Problem(507, "UNKNOWN", f"no room: {error}") from None

    async def _begin(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        query = request.query
        if "mount" in query:
            digest = _digest(query["mount"])
            if await self._mounted(request, asked.repository, digest):
                return _created(asked.repository, digest)
        if "digest" not in query or "mount" in query:
            upload = await self._uploads.begin(asked.repository, _algorithm(query.get("digest-algorithm")))
            return web.Response(status=202, headers=_where(upload))
        digest = _digest(query["digest"])
        upload = await self._uploads.begin(asked.repository, digest.algorithm)
        try:
            return await self._completed(request, upload, upload.turn(), digest)
        except BaseException:
            await self._uploads.cancel(upload)
            raise

    async def _append(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        upload = await self._upload(asked)
        await self._take(request, upload, upload.turn())
        return web.Response(status=202, headers=_where(upload))

    async def _finish(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        upload = await self._upload(asked)
        if "digest" not in request.query:
            raise Problem(400, "DIGEST_INVALID", "the query names no digest: PUT ...?digest=sha256:<64 hex>")
        return await self._completed(request, upload, upload.turn(), _digest(request.query["digest"]))

    async def _completed(self, request: web.BaseRequest, upload: Upload, turn: int, digest: Digest) -> web.Response:
        upload.hash_by(digest.algorithm)
        await self._take(request, upload, turn)
        await self._keep(upload, turn, digest)
        return _created(upload.repository, digest)

    async def _keep(self, upload: Upload, turn: int, digest: Digest) -> None:
        holding = await self._uploads.finish(upload, turn, digest)
        await self._owned.add_blob(upload.repository.name, digest, holding.size)

    async def _tell(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        return web.Response(status=204, headers=_where(await self._upload(asked)))

    async def _cancel(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        await self._uploads.cancel(await self._upload(asked))
        return web.Response(status=204)

    async def _manifest(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        data = await self._read(request, MAX_MANIFEST_BYTES)
        named = asked.selector if isinstance(asked.selector, Digest) else None
        digest = Digest.of(data, named.algorithm) if named else Digest.of(data)
        if named not in (None, digest):
            raise MismatchError(f"{named}: the manifest's {len(data)} bytes hash to {digest}")
        manifest = parse_manifest(data, request.headers.get("Content-Type"), digest)
        if not MEDIA_TYPE.fullmatch(manifest.artifact_type):
            raise InvalidError("manifest: its artifactType, or config's mediaType, is no media type (RFC 6838)")
        tags = [asked.selector] if isinstance(asked.selector, Tag) else _tags(request)
        await self._keep_manifest(asked.repository, manifest, tags)
        headers = {
            "Location": f"/v2/{asked.repository.name}/manifests/{asked.selector}",
            "Docker-Content-Digest": str(digest),
        }
        if manifest.subject is not None:
            headers["OCI-Subject"] = str(manifest.subject)
        if named and tags:
            headers["OCI-Tag"] = ", ".join(tag.text for tag in tags)
        return web.Response(status=201, headers=headers)

    async def _keep_manifest(self, repository: Repository, manifest: Manifest, tags: list[Tag]) -> None:
        """The bytes first, which nobody is told of before the record: what no repository names in the end stays hidden.

        Also those that the client need not push because another member has them: this node answers for them now.
        """
        members = {each.digest for each in manifest.names if await self._owned.blob(repository.name, each.digest)}
        try:
            await self._bringing.bring(repository, members)
        except NotFoundError as error:
            raise MissingError(f"{error}: push it again") from None
        await self._store.put(manifest.digest, manifest.data, None, repository)
        await self._store.sync(manifest.digest)
        await self._owned.push(repository.name, manifest, tags)

    async def _delete(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        if isinstance(asked.selector, Tag):
            await self._owned.delete_tag(asked.repository.name, asked.selector)
        else:
            await self._owned.delete_manifest(asked.repository.name, asked.digest)
        return web.Response(status=202)

    async def _delete_blob(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        """Refused, as a deletion that is not supported, while a manifest names the blob: it could not be pulled."""
        naming = await self._naming.by(asked.repository.name, asked.digest)
        if naming is not None:
            message = f"{naming} names it: delete that manifest first"
            raise Problem(405, "DENIED", message, {"Allow": "GET, HEAD"})
        await self._owned.delete_blob(asked.repository.name, asked.digest)
        return web.Response(status=202)

    async def _upload(self, asked: Asked) -> Upload:
        return await self._uploads.find(asked.repository, asked.upload)

    async def _mounted(self, request: web.BaseRequest, repository: Repository, digest: Digest) -> bool:
        """Let a blob of an own repository that the client may read, or a public one, belong to this one as well."""
        source = request.query.get("from")
        names = await self._owned.having(digest) if source is None else (source,)
        names = tuple(name for name in names if self._gate.may(request, Action.PULL, Repository(OWN, name)))
        holding = await self._store.find(digest)
        shown = holding is not None and holding.visibility is not Visibility.PRIVATE
        for name in names:
            content = await self._owned.blob(name, digest)
            if content is not None and (shown or self._cluster.holders(digest)):
                await self._owned.add_blob(repository.name, digest, content.size)
                return True
        if holding is None or holding.visibility is not Visibility.PUBLIC:
            return False
        await self._store.sync(digest)
        await self._store.repositories.show(repository, digest, Proof(Visibility.MEMBERS))
        await self._owned.add_blob(repository.name, digest, holding.size)
        return True

    async def _take(self, request: web.BaseRequest, upload: Upload, turn: int) -> None:
        """Append the request's body. What came before it broke off stays."""
        expected = self._expected(request, upload)
        came = 0
        async for chunk in self._chunks(request):
            came += len(chunk)
            if expected is not None and came > expected:
                raise Problem(400, "SIZE_INVALID", f"the body has more than the {expected} bytes of its Content-Range")
            await upload.write(turn, chunk)
        await upload.written()
        if expected not in (None, came):
            raise Problem(400, "SIZE_INVALID", f"the body has {came} bytes, Content-Range says {expected}")

    def _expected(self, request: web.BaseRequest, upload: Upload) -> int | None:
        """How many bytes Content-Range says come; they must begin where those that came end."""
        text = request.headers.get("Content-Range")
        if text is None:
            return None
        found = _SPAN.fullmatch(text.strip())
        if found is None or int(found[2]) < int(found[1]):
            raise Problem(400, "BLOB_UPLOAD_INVALID", f"Content-Range {text[:60]!r}: <first>-<last> is expected")
        first, last = int(found[1]), int(found[2])
        length = request.content_length
        if first != upload.size:
            message = f"the next byte is {upload.size}, not {first}"
            raise Problem(416, "BLOB_UPLOAD_INVALID", message, _where(upload))
        if length is not None and length != last - first + 1:
            raise Problem(400, "SIZE_INVALID", f"Content-Length {length} is not what Content-Range {text[:60]!r} says")
        return last - first + 1

    async def _chunks(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            ConnectionError: when it breaks off, or nothing comes for long.
        """
        try:
            await invite_body(request)
            while True:
                async with asyncio.timeout(self._stall_s):
                    chunk = await request.content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            raise ConnectionResetError(f"the client sent nothing for {self._stall_s:g} s") from None
        except ClientError as error:
            raise ConnectionResetError(f"the client went away: {error}") from None

    async def _read(self, request: web.BaseRequest, most: int) -> bytes:
        if (request.content_length or 0) > most:
            raise Problem(413, "SIZE_INVALID", f"{request.content_length} bytes: manifests have at most {most}")
        data = bytearray()
        async for chunk in self._chunks(request):
            data += chunk
            if len(data) > most:
                raise Problem(413, "SIZE_INVALID", f"the manifest has more than {most} bytes")
        return bytes(data)


_UNKNOWN: Final = {
    Route.MANIFEST: "MANIFEST_UNKNOWN",
    Route.BLOB: "BLOB_UNKNOWN",
    Route.UPLOAD: "BLOB_UPLOAD_UNKNOWN",
}


def _where(upload: Upload) -> dict[str, str]:
    """How far an upload has come, and where it goes on."""
    return {
        "Location": f"/v2/{upload.repository.name}/blobs/uploads/{upload.name}",
        "Range": f"0-{max(0, upload.size - 1)}",
        "Docker-Upload-UUID": upload.name,
    }


def _created(repository: Repository, digest: Digest) -> web.Response:
    headers = {"Location": f"/v2/{repository.name}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return web.Response(status=201, headers=headers)


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidError as error:
        raise Problem(400, "DIGEST_INVALID", str(error)) from None


def _algorithm(text: str | None) -> Algorithm:
    try:
        return Algorithm(text) if text is not None else Algorithm.SHA256
    except ValueError:
        known = ", ".join(Algorithm)
        raise Problem(400, "DIGEST_INVALID", f"digest-algorithm {text!r:.40}: known are {known}") from None


def _tags(request: web.BaseRequest) -> list[Tag]:
    """Tags that a manifest pushed by digest is given as well."""
    texts = request.query.getall("tag", [])
    if len(texts) > MOST_TAGS:
        raise Problem(414, "TAG_INVALID", f"{len(texts)} tags: at most {MOST_TAGS} are given at once")
    try:
        return [Tag.parse(text) for text in texts]
    except InvalidError as error:
        raise Problem(400, "TAG_INVALID", str(error)) from None
