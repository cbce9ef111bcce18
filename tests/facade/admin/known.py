"""A store, names and neighbours that know what a test tells them."""

from collections.abc import Collection

from cluster.cluster import Holder, MemberTag, PeerState, PeerStatus
from facade.settings import Address
from node.catalog import Holding, Visibility
from node.cid import Cid
from node.digest import Digest
from node.errors import NotFoundError
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.owned import Conflict
from node.records import Content
from node.reference import Repository, Tag
from node.repositories import TagSeen
from node.store import Stats

REPOSITORY = Repository("docker.io", "library/app")
CID = Cid.of(b"somewhere")
FACADE = Address("127.0.0.1", 5050)


class KnownOwn:
    """Own repositories: what their tags mean."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], Content] = {}

    async def tag(self, repository: str, tag: Tag) -> Content | None:
        return self.tags.get((repository, tag.text))

    async def having(self, digest: Digest) -> tuple[str, ...]:
        return tuple(name for (name, _), content in self.tags.items() if content.digest == digest)


class Known:
    """All three at once; nothing is known at first."""

    def __init__(self) -> None:
        self.node_id = "0" * 32
        self.blobs: dict[Digest, bytes] = {}
        self.tags: dict[Tag, TagSeen] = {}
        self.member_tags: dict[Tag, MemberTag] = {}
        self.held_by: dict[Digest, tuple[Holder, ...]] = {}
        self.neighbours: tuple[PeerStatus, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.owned = KnownOwn()
        self.written_twice: tuple[Conflict, ...] = ()

    async def conflicts(self) -> tuple[Conflict, ...]:
        return self.written_twice

    @property
    def stats(self) -> Stats:
        return Stats(len(self.blobs), sum(map(len, self.blobs.values())))

    def keep(self, data: bytes) -> Digest:
        """Hold a blob."""
        digest = Digest.of(data)
        self.blobs[digest] = data
        return digest

    async def find(self, digest: Digest) -> Holding | None:
        data = self.blobs.get(digest)
        return None if data is None else Holding(digest, Cid.of(data), len(data), Visibility.PUBLIC)

    async def load(self, digest: Digest, limit: int = 4 << 20) -> bytes:
        if digest not in self.blobs:
            raise NotFoundError(f"{digest} is not here")
        return self.blobs[digest][:limit]

    async def seen(self, repository: Repository, tag: Tag) -> TagSeen | None:
        return self.tags.get(tag) if repository == REPOSITORY else None

    async def repositories_of(self, digest: Digest) -> tuple[Repository, ...]:
        return (REPOSITORY,) if digest in self.blobs else ()

    def holders(self, digest: Digest, repositories: Collection[Repository] = ()) -> tuple[Holder, ...]:
        shown = self.held_by.get(digest, ())
        return tuple(one for one in shown if one.visibility is not Visibility.SHARED or REPOSITORY in repositories)

    def tag(self, repository: Repository, tag: Tag, now: float) -> MemberTag | None:
        return self.member_tags.get(tag) if repository == REPOSITORY else None

    def peers(self) -> tuple[PeerStatus, ...]:
        return self.neighbours


def descriptor(data: bytes, media_type: str = "application/octet-stream") -> str:
    """How a manifest names a blob."""
    return f'{{"mediaType": "{media_type}", "digest": "{Digest.of(data)}", "size": {len(data)}}}'


def manifest(config: bytes, *layers: bytes) -> bytes:
    """An image manifest's bytes."""
    named = ", ".join(descriptor(layer) for layer in layers)
    return (
        f'{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "config": {descriptor(config)}, "layers": [{named}]}}'
    ).encode()


def index(*manifests: bytes) -> bytes:
    """An image index's bytes."""
    named = ", ".join(descriptor(data, OCI_MANIFEST) for data in manifests)
    return f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "manifests": [{named}]}}'.encode()


def holder(name: str) -> Holder:
    """A peer that says that it holds a blob of 9 bytes."""
    return Holder(name * 8, name, f"http://{name}.test:5051", CID, 9, member=False, visibility=Visibility.PUBLIC)


def peer(name: str, state: PeerState) -> PeerStatus:
    """A peer in some state."""
    return PeerStatus(name * 8, name, f"http://{name}.test:5051", state, False, 1.0, 3, None, None, 10, 20)


def seen(tag: Tag, digest: Digest, at: float) -> TagSeen:
    """An observation of a tag of the repository."""
    return TagSeen(REPOSITORY, tag, digest, OCI_MANIFEST, at, 100)
