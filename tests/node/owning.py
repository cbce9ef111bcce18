"""Own repositories for tests: some manifests, their records, and how they are pushed."""

from node.catalog import Audience, RecordChange
from node.digest import Digest
from node.manifest import Manifest
from node.owned import Conflict
from node.records import Content, Kind, Record
from node.reference import Tag
from node.store import Store
from tests.node.contents import image

APP = "team/app"


V1, V2 = Tag("v1"), Tag("v2")


ONE, TWO, THREE = (image(f"layer {number}".encode()) for number in range(3))


ORIGINS = tuple(letter * 32 for letter in "abc")


State = tuple[set[Record], set[Conflict]]


def meaning(manifest: Manifest) -> Content:
    return Content(manifest.digest, len(manifest.data), manifest.media_type)


def tagged(manifest: Manifest | None, stamp: int, origin: str = ORIGINS[0], base: int = 0, tag: str = "v1") -> Record:
    return Record(APP, Kind.TAG, tag, meaning(manifest) if manifest else None, stamp, origin, base)


def entered(manifest: Manifest, stamp: int, *, deleted: bool = False, subject: Digest | None = None) -> Record:
    content = Content(manifest.digest, len(manifest.data), manifest.media_type, "application/x", subject)
    return Record(APP, Kind.MANIFEST, str(manifest.digest), None if deleted else content, stamp, ORIGINS[0])


async def push(store: Store, manifest: Manifest, *tags: Tag, repository: str = APP) -> None:
    """Push a manifest and what it names."""
    for each in manifest.names:
        await store.owned.add_blob(repository, each.digest, each.size)
    await store.owned.push(repository, manifest, tags)


async def records(store: Store) -> list[Record]:
    """All that members are told."""
    changes = await store.changes(0, Audience.MEMBERS, 10_000)
    return [entry.record for entry in changes.entries if isinstance(entry, RecordChange)]


async def state(store: Store) -> State:
    return set(await records(store)), set(await store.owned.conflicts())


def meaning_of(manifest: Manifest) -> Content:
    return Content(manifest.digest, len(manifest.data), manifest.media_type, manifest.artifact_type, manifest.subject)
