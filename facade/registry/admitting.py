"""Images that an operator brings as files: their bytes come first, and nobody sees them before all are here."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from facade.images.keeping import Held
from facade.registry.manifests import Manifests
from facade.registry.pushing import MEDIA_TYPE
from facade.upstream.config import UpstreamConfig
from facade.upstream.tags import Rule
from node.catalog import Visibility
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.layout import ImageName, Listed
from node.manifest import MAX_MANIFEST_BYTES, Manifest, Role, parse_manifest
from node.records import RESTORED, Content, Kind, Record
from node.reference import OWN, Repository, Tag
from node.repositories import Proof, TagSeen
from node.store import Store

MOST_MANIFESTS: Final = 1000
"""So many manifests may one image have, indexes within indexes included, and together so many bytes."""
MOST_BYTES: Final = 32 * 1024 * 1024
_STAGED: Final = Repository(OWN, RESTORED)
"""What bytes come for before it is said whose they are."""


class KnownUpstream(Protocol):
    """The registries behind us, as far as it is known what was said of them."""

    def serves(self, namespace: str) -> bool: ...

    def config(self, namespace: str) -> UpstreamConfig: ...


@dataclass(frozen=True, slots=True)
class Brought:
    """An image as a file says: by which tag (None: by its digest alone) a repository is to have which manifest."""

    repository: Repository
    tag: Tag | None
    root: Digest
    media_type: str = ""


class Admitting:
    """Enters images whose bytes were put in the store for `restored`, as a backup's are."""

    def __init__(
        self, store: Store, upstream: KnownUpstream, manifests: Manifests, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._manifests = manifests
        self._clock = clock

    async def lacking(self, sizes: Mapping[Digest, int]) -> list[Digest]:
        """Those of some blobs, of which a file says the sizes, whose bytes have to be brought.

        What is hidden here counts as not here, unless it was brought.

        Raises:
            InvalidError: when one that is here has another size.
        """
        found = []
        for digest, size in sizes.items():
            if not await self._is_here(digest):
                found.append(digest)
            elif (holding := await self._store.find(digest)) is not None and holding.size != size:
                raise InvalidError(f"{digest}: the image says {size} bytes, it has {holding.size}")
        return found

    async def check(self, brought: Brought) -> None:
        """Whether an image may be called that; before any of its bytes are brought.

        Raises:
            InvalidError: when nobody could pull it by that name, or what upstream said counts for good.
        """
        repository, tag = brought.repository, brought.tag
        if repository.namespace == OWN:
            return
        if not self._upstream.serves(repository.namespace):
            raise InvalidError(
                f"{repository}: registry namespace {repository.namespace!r} is not configured here:"
                " name the image with --as, or the registry with `layermesh up --upstream`"
            )
        if tag is None:
            return
        policy = self._upstream.config(repository.namespace).tag_policy(tag)
        if not policy.falls_back:
            raise InvalidError(
                f"{repository}:{tag}: the rule {policy.rule} lets nothing count for this tag but what the registry says"
            )
        seen = await self._store.repositories.seen(repository, tag)
        if policy.rule is Rule.PINNED and seen is not None and not seen.lasting and seen.digest != brought.root:
            raise InvalidError(f"{repository}:{tag}: it is pinned to {seen.digest}, as the registry said")

    async def admit(self, brought: Brought, visibility: Visibility) -> Held:
        """Let a repository have an image, and a tag mean it; all or nothing.

        Raises:
            InvalidError: as `check`, and when it is no image.
            NotFoundError: when a blob that it needs was not brought.
            FullError: when the disk has no room.
        """
        await self.check(brought)
        manifests = await self._tree(brought)
        digests = tuple({each.digest: None for each in _needed(manifests)})
        for digest in digests:
            await self._store.sync(digest)
        if brought.repository.namespace == OWN:
            await self._own(brought, manifests, visibility)
        else:
            await self._mirrored(brought, manifests, visibility)
        root = Listed(manifests[0].media_type, manifests[0].digest, len(manifests[0].data))
        return Held(ImageName(brought.repository, brought.tag), root, digests)

    async def _own(self, brought: Brought, manifests: Sequence[Manifest], visibility: Visibility) -> None:
        name = brought.repository.name
        records = [Record(name, Kind.BLOB, str(each.digest), each, 0, "") for each in _blobs(manifests)]
        for manifest in reversed(manifests):  # what is named before what names it, as it is pushed
            if not MEDIA_TYPE.fullmatch(manifest.artifact_type):
                raise InvalidError(f"{manifest.digest}: its artifactType, or config's mediaType, is no media type")
            content = Content(
                manifest.digest, len(manifest.data), manifest.media_type, manifest.artifact_type, manifest.subject
            )
            records.append(Record(name, Kind.MANIFEST, str(manifest.digest), content, 0, ""))
        if brought.tag is not None:
            meant = replace(content, artifact_type="", subject=None)
            records.append(Record(name, Kind.TAG, brought.tag.text, meant, 0, ""))
        await self._store.owned.restore(records)
        for each in _needed(manifests):  # also what is here for another reason, which may end
            await self._store.repositories.show(brought.repository, each.digest, Proof(Visibility.MEMBERS))
            if visibility is Visibility.PUBLIC:
                await self._store.repositories.show(brought.repository, each.digest, Proof(visibility))

    async def _mirrored(self, brought: Brought, manifests: Sequence[Manifest], visibility: Visibility) -> None:
        seen = None
        if brought.tag is not None:
            root = manifests[0]
            now = self._clock()
            seen = TagSeen(brought.repository, brought.tag, root.digest, root.media_type, now, 0, lasting=True)
        await self._store.repositories.admit(brought.repository, manifests, Proof(visibility), seen)
        if seen is not None:
            self._manifests.brought(seen)

    async def _tree(self, brought: Brought) -> list[Manifest]:
        """The image's manifests, the root first; every blob that they name is here."""
        found: dict[Digest, Manifest] = {}
        waiting = [(brought.root, brought.media_type)]
        room = MOST_BYTES
        while waiting:
            digest, media_type = waiting.pop(0)
            if digest in found:
                continue
            found[digest] = manifest = await self._manifest(digest, media_type)
            room -= len(manifest.data)
            if len(found) > MOST_MANIFESTS or room < 0:
                raise InvalidError(
                    f"{brought.root}: at most {MOST_MANIFESTS} manifests of {MOST_BYTES} bytes together are read"
                )
            waiting += [(each.digest, each.media_type) for each in manifest.names if each.role is Role.MANIFEST]
            for each in manifest.names:
                await self._require(manifest, each.digest, each.size, distributable=each.distributable)
        return list(found.values())

    async def _manifest(self, digest: Digest, media_type: str) -> Manifest:
        if not await self._is_here(digest):
            raise NotFoundError(f"{digest}: a manifest that was not brought")
        return parse_manifest(await self._store.load(digest, MAX_MANIFEST_BYTES), media_type, digest)

    async def _require(self, manifest: Manifest, digest: Digest, size: int, *, distributable: bool) -> None:
        if not await self._is_here(digest):
            if not distributable:
                return
            raise NotFoundError(f"{digest}: {manifest.digest} names it, but it was not brought")
        holding = await self._store.find(digest)
        if holding is not None and holding.size != size:
            raise InvalidError(f"{digest}: {manifest.digest} says {size} bytes, it has {holding.size}")

    async def _is_here(self, digest: Digest) -> bool:
        holding = await self._store.find(digest)
        if holding is None:
            return False
        return not holding.visibility.hidden or await self._store.repositories.confirmed(_STAGED, digest)


def _needed(manifests: Sequence[Manifest]) -> list[Content]:
    itself = [Content(each.digest, len(each.data)) for each in manifests]
    return [*itself, *_blobs(manifests)]


def _blobs(manifests: Sequence[Manifest]) -> list[Content]:
    """What the manifests name besides manifests, each once."""
    named = [each for manifest in manifests for each in manifest.names if each.role is not Role.MANIFEST]
    return list({each.digest: Content(each.digest, each.size) for each in named if each.distributable}.values())
