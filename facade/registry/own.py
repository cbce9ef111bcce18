"""The cluster's own repositories as clients read them (OCI distribution specification 1.1, "Pull" and "Content
Discovery"): manifests by tag and digest, tags, referrers.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog
from aiohttp import web
from multidict import MultiMapping

from cluster.cluster import Cluster
from facade.metrics import Metrics
from facade.registry.manifests import Answer
from facade.registry.near import fetch_manifest
from facade.registry.obtainable import Obtainable
from facade.registry.problems import Problem
from facade.settings import Waits
from facade.sources import SourceName, offers
from node.digest import Digest
from node.errors import InvalidError, LayermeshError, NotFoundError, UnreachableError
from node.manifest import INDEX_TYPES, OCI_INDEX, Role, annotations_of, parse_manifest
from node.records import Content
from node.reference import Repository, Tag
from node.store import Store

log = structlog.get_logger(__name__)
MOST_REFERRERS_BYTES: Final = 4 * 1024 * 1024
"""One list of referrers has at most so many bytes, and comes from manifests of so many; a `Link` leads to the next."""
MOST_LISTED: Final = 10_000
"""So many names are in one answer at most; a `Link` leads to the next."""


class Own:
    """Answers for own repositories."""

    def __init__(self, store: Store, cluster: Cluster, obtainable: Obtainable, waits: Waits, metrics: Metrics) -> None:
        self._store = store
        self._owned = store.owned
        self._cluster = cluster
        self._obtainable = obtainable
        self._waits = waits
        self._metrics = metrics

    async def manifest(self, repository: Repository, selector: Tag | Digest) -> Answer:
        """The manifest that a tag or digest names, if its blobs can be had now.

        Raises:
            NotFoundError: the repository has no such manifest, or not the blobs any more that it names.
            UnreachableError: it, or one of its blobs, is with members that are away.
        """
        content = await self._named(repository.name, selector)
        if content is None:
            await self._require(repository)
            raise NotFoundError(f"{repository.name}: no manifest {selector}")
        source, data = await self._bytes(repository, content.digest)
        manifest = parse_manifest(data, content.media_type, content.digest)
        blobs = [each.digest for each in manifest.names if each.role is not Role.MANIFEST and each.distributable]
        if lacking := await self._owned.lacking(repository.name, blobs):  # deleted elsewhere while it was pushed here
            raise NotFoundError(f"{repository.name}: {selector} names {min(lacking, key=str)}, which was deleted")
        if not (await self._obtainable.here(manifest) or await self._obtainable.around(repository, manifest)):
            raise UnreachableError(f"{repository.name}: blobs of {selector} are with members that are away")
        return Answer(manifest, source)

    async def tags(self, repository: Repository, query: MultiMapping[str]) -> web.Response:
        """The list of tags, as `n` and `last` ask for it."""
        await self._require(repository)
        limit, after = _page(query)
        tags = await self._owned.tags(repository.name, after, limit + 1)
        return _listed({"name": repository.name, "tags": tags[:limit]}, f"/v2/{repository.name}/tags/list", tags, limit)

    async def catalog(self, query: MultiMapping[str]) -> web.Response:
        """The list of own repositories: no part of the specification, but clients know it from Docker's registry."""
        limit, after = _page(query)
        names = await self._owned.repositories(after, limit + 1)
        return _listed({"repositories": names[:limit]}, "/v2/_catalog", names, limit)

    async def referrers(self, repository: Repository, subject: Digest, query: MultiMapping[str]) -> web.Response:
        """An index of what refers to a digest, known or not; with those that a client listed under a fallback tag."""
        headers, wanted = {"Content-Type": OCI_INDEX}, query.get("artifactType")
        referring = await self._referring(repository, subject, query.get("last", ""))
        if wanted is not None:
            referring = [content for content in referring if content.artifact_type == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        found = await self._referrers(repository, referring)
        if len(found) < len(referring):
            following = urlencode({**({} if wanted is None else {"artifactType": wanted}), "last": found[-1]["digest"]})
            headers["Link"] = f'</v2/{repository.name}/referrers/{subject}?{following}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return web.Response(body=msgspec.json.encode(index), headers=headers)

    async def _referrers(self, repository: Repository, referring: Sequence[Content]) -> list[dict[str, Any]]:
        """The first of them, as many as one answer holds; none has its annotations once that took long."""
        clock = asyncio.get_running_loop().time
        until, room = clock() + self._waits.answer_s, MOST_REFERRERS_BYTES
        found: list[dict[str, Any]] = []
        for content in referring:
            entry, read_bytes = await self._referrer(repository, content, annotated=clock() < until)
            room -= max(read_bytes, len(msgspec.json.encode(entry)) + 1)
            if room < 0 and found:
                break
            found.append(entry)
        return found

    async def _require(self, repository: Repository) -> None:
        if not await self._owned.exists(repository.name):
            raise Problem(404, "NAME_UNKNOWN", f"{repository.name}: nothing was ever pushed to it")

    async def _named(self, name: str, selector: Tag | Digest) -> Content | None:
        if isinstance(selector, Tag):
            return await self._owned.tag(name, selector)
        return await self._owned.manifest(name, selector)

    async def _bytes(self, repository: Repository, digest: Digest) -> tuple[SourceName, bytes]:
        """A manifest's bytes, from here or another member; here it counts unless it is hidden, as a blob does.

        Raises:
            UnreachableError: when neither has them now.
        """
        holding = await self._store.find(digest)
        if holding is not None and not holding.visibility.hidden:  # see `Blobs`
            with suppress(NotFoundError):
                return SourceName.LOCAL, await self._store.load(digest)
        for offer in offers(self._cluster.holders(digest), None):
            try:
                async with asyncio.timeout(self._waits.answer_s):
                    data = await fetch_manifest(self._store, self._cluster, repository, digest, offer)
            except (LayermeshError, TimeoutError) as error:
                log.info("member gave no manifest", digest=str(digest), why=str(error) or "no answer in time")
            else:
                self._metrics.fetched(SourceName.PEER, len(data))
                return SourceName.PEER, data
        raise UnreachableError(f"{digest}: the members that have it are away")

    async def _referring(self, repository: Repository, subject: Digest, after: str) -> Sequence[Content]:
        """What names the subject itself, and what clients listed for registries that do not look for themselves.

        Those behind `after`, in the order of their digests.
        """
        found = {content.digest: content for content in await self._owned.referrers(repository.name, subject)}
        tag = Tag(f"{subject.algorithm}-{subject.hex[:64]}")
        listed = await self._owned.tag(repository.name, tag)
        if listed is not None and listed.media_type in INDEX_TYPES:
            try:
                _, data = await self._bytes(repository, listed.digest)
                named = parse_manifest(data, listed.media_type, listed.digest).names
            except (UnreachableError, InvalidError) as error:
                log.info("fallback tag not read", tag=tag.text, why=str(error))
                named = ()
            for each in named:
                content = await self._owned.manifest(repository.name, each.digest)
                if content is not None and content.subject == subject:
                    found.setdefault(content.digest, content)
        behind = {str(digest): content for digest, content in found.items() if str(digest) > after}
        return [behind[text] for text in sorted(behind)]

    async def _referrer(
        self, repository: Repository, content: Content, *, annotated: bool
    ) -> tuple[dict[str, Any], int]:
        """How a manifest is listed, and how many of its bytes were read for that."""
        entry: dict[str, Any] = {
            "mediaType": content.media_type,
            "digest": str(content.digest),
            "size": content.size,
        }
        if content.artifact_type:
            entry["artifactType"] = content.artifact_type
        if not annotated:
            return entry, 0
        try:
            _, data = await self._bytes(repository, content.digest)
        except UnreachableError as error:
            log.info("referrer listed without its annotations", digest=str(content.digest), why=str(error))
            return entry, 0
        if annotations := annotations_of(data):
            entry["annotations"] = annotations
        return entry, len(data)


def _page(query: MultiMapping[str]) -> tuple[int, str]:
    """How many names are asked for, and behind which."""
    text = query.get("n")
    if text is None:
        return MOST_LISTED, query.get("last", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, "PAGINATION_NUMBER_INVALID", f"n={text[:20]!r}: a number from 0 on is expected")
    return min(int(text), MOST_LISTED), query.get("last", "")


def _listed(body: dict[str, Any], path: str, found: Sequence[str], limit: int) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if limit and len(found) > limit:
        following = urlencode({"n": limit, "last": found[limit - 1]})
        headers["Link"] = f'<{path}?{following}>; rel="next"'
    return web.Response(body=msgspec.json.encode(body), headers=headers)
