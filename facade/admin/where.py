"""Where the blobs of an image are: here, with which peers, and in which repositories. The answer of `/api/where`."""

from collections.abc import AsyncIterator, Collection
from typing import Final, Protocol

import msgspec

from cluster.cluster import Holder, MemberTag
from facade.admin.asked import parse_named
from facade.settings import Address
from node.catalog import Holding
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.manifest import MAX_MANIFEST_BYTES, Descriptor, Manifest, Role, parse_manifest
from node.records import Content
from node.reference import OWN, Reference, Repository, Tag
from node.repositories import TagSeen

MOST_MANIFESTS: Final = 100


class Names(Protocol):
    """What is asked of the repositories."""

    async def seen(self, repository: Repository, tag: Tag) -> TagSeen | None: ...

    async def repositories_of(self, digest: Digest) -> tuple[Repository, ...]: ...


class Blobs(Protocol):
    """What is asked of the store."""

    async def find(self, digest: Digest) -> Holding | None: ...

    async def load(self, digest: Digest, limit: int = ...) -> bytes: ...


class Neighbours(Protocol):
    """What is asked of the cluster."""

    def holders(self, digest: Digest) -> tuple[Holder, ...]: ...

    def tag(self, repository: Repository, tag: Tag, now: float) -> MemberTag | None: ...


class HolderReport(msgspec.Struct, frozen=True):
    """A peer that says that it holds the blob."""

    name: str
    id: str
    url: str
    member: bool


class BlobReport(msgspec.Struct, frozen=True):
    """One blob; `cid` is None where nobody known holds it, `role` where no manifest here names it."""

    digest: str
    role: Role | None
    media_type: str | None
    size: int | None
    here: bool
    cid: str | None
    visibility: str | None
    peers: list[HolderReport]
    repositories: list[str]


class WhereReport(msgspec.Struct, frozen=True):
    """What was asked for, the digest it stands for, and who says so and when (unix seconds).

    `here` and `peers` speak of the whole: is every one of `blobs` here, and which peers hold every one.
    """

    asked: str
    digest: str
    seen_at: float | None
    seen_by: str | None
    here: bool
    peers: list[HolderReport]
    blobs: list[BlobReport]


class OwnNames(Protocol):
    """The cluster's own repositories."""

    async def tag(self, repository: str, tag: Tag) -> Content | None: ...

    async def having(self, digest: Digest) -> tuple[str, ...]: ...


class Where:
    """Answers where things are, from what this node knows; nobody else is asked.

    `namespaces` are the registries that the node serves, `facade` is where it does. A name behind the facade's address
    that begins with none of them is one of the cluster's own repositories.
    """

    def __init__(
        self,
        blobs: Blobs,
        names: Names,
        owned: OwnNames,
        neighbours: Neighbours,
        namespaces: Collection[str],
        facade: Address,
    ) -> None:
        self._blobs = blobs
        self._owned = owned
        self._names = names
        self._neighbours = neighbours
        self._namespaces = namespaces
        self._facade = facade

    async def answer(self, text: str, now: float) -> WhereReport:
        """Where an image or a blob is; `now` in unix seconds.

        Raises:
            InvalidError: when `text` is neither a digest nor an image reference.
            NotFoundError: when nothing is known of it.
        """
        seen_at, seen_by, role = None, None, None
        asked = parse_named(text, self._facade)
        if isinstance(asked, Digest):
            digest = asked
        else:
            digest, seen_at, seen_by = await self._resolve(asked, now)
            role = Role.MANIFEST
        blobs = [await self._blob(item, item.role if item.media_type else role) async for item in self._named(digest)]
        if not any(blob.here or blob.peers or blob.repositories for blob in blobs):
            raise NotFoundError(f"{text}: neither this node nor a live peer has anything of it")
        here = all(blob.here for blob in blobs)
        return WhereReport(text, str(digest), seen_at, seen_by, here, _holding_all(blobs), blobs)

    async def _resolve(self, reference: Reference, now: float) -> tuple[Digest, float | None, str | None]:
        if isinstance(reference.selector, Digest):
            return reference.selector, None, None
        if reference.repository.namespace == OWN:
            return await self._own(reference.repository.name, reference.selector), None, None
        own = await self._names.seen(reference.repository, reference.selector)
        theirs = self._neighbours.tag(reference.repository, reference.selector, now)
        if theirs is not None and (own is None or theirs.seen.seen_at > own.seen_at):
            return theirs.seen.digest, theirs.seen.seen_at, theirs.peer_name
        if own is None:
            namespace = reference.repository.namespace
            if namespace.lower() not in self._namespaces:
                raise NotFoundError(f"{reference}: registry namespace {namespace!r} is not configured here")
            ask = f"ask with the digest{await self._hint(reference.repository.name, reference.selector)}"
            raise NotFoundError(f"{reference}: this tag has not been pulled through this node; {ask}")
        return own.digest, own.seen_at, None

    async def _hint(self, name: str, tag: Tag) -> str:
        """How an own repository of this name is asked for, where it has the tag: people leave the address out."""
        name = name.removeprefix("library/")
        known = await self._owned.tag(name, tag)
        return f", or for the cluster's own: {self._facade}/{name}:{tag}" if known else ""

    async def _own(self, name: str, tag: Tag) -> Digest:
        content = await self._owned.tag(name, tag)
        if content is None:
            raise NotFoundError(f"{name}:{tag}: no own repository has this tag")
        return content.digest

    async def _named(self, root: Digest) -> AsyncIterator[Descriptor]:
        """The blob itself and, where it is a manifest that is here, all it names, children of an index included.

        A descriptor without a media type says nothing but the digest.
        """
        manifest = await self._manifest(root)
        yield Descriptor(manifest.media_type if manifest else "", root, 0, Role.MANIFEST)
        waiting, met = [manifest] if manifest else [], {root}
        for _ in range(MOST_MANIFESTS):
            if not waiting:
                return
            for item in waiting.pop(0).names:
                if item.digest in met:
                    continue
                met.add(item.digest)
                yield item
                child = await self._manifest(item.digest) if item.role is Role.MANIFEST else None
                waiting.extend([child] if child else [])

    async def _manifest(self, digest: Digest) -> Manifest | None:
        holding = await self._blobs.find(digest)
        if holding is None or holding.size > MAX_MANIFEST_BYTES:
            return None
        try:
            return parse_manifest(await self._blobs.load(digest, MAX_MANIFEST_BYTES), digest=digest)
        except (InvalidError, NotFoundError):
            return None

    async def _blob(self, item: Descriptor, role: Role | None) -> BlobReport:
        digest = item.digest
        holding = await self._blobs.find(digest)
        holders = self._neighbours.holders(digest)
        known = holding or next(iter(holders), None)
        return BlobReport(
            digest=str(digest),
            role=role,
            media_type=item.media_type or None,
            size=known.size if known else item.size or None,
            here=holding is not None,
            cid=str(known.cid) if known else None,
            visibility=str(holding.visibility) if holding else None,
            peers=[HolderReport(holder.name, holder.peer_id, holder.url, holder.member) for holder in holders],
            repositories=[
                *(str(repository) for repository in await self._names.repositories_of(digest)),
                *await self._owned.having(digest),
            ],
        )


def _holding_all(blobs: list[BlobReport]) -> list[HolderReport]:
    """The peers that hold every one of the blobs."""
    everywhere = set.intersection(*({peer.id for peer in blob.peers} for blob in blobs))
    return [peer for peer in blobs[0].peers if peer.id in everywhere]
