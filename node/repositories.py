"""Which repository names which content, and who may see it through that repository."""

from dataclasses import dataclass

from node.digest import Digest
from node.manifest import Manifest, Role
from node.reference import Repository, Tag
from node.visibility import Proof as Proof
from node.visibility import Visibility


@dataclass(frozen=True, slots=True)
class Link:
    """That a repository names a blob: as what, and who may see it through this repository now."""

    repository: Repository
    digest: Digest
    media_type: str
    size: int
    role: Role
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class TagSeen:
    """What a tag meant when it was last looked at (`seen_at`, unix seconds)."""

    repository: Repository
    tag: Tag
    digest: Digest
    media_type: str
    seen_at: float
    size: int


class Repositories:
    """The repositories known to this node: links and tag observations, in the catalog's database."""

    async def record(self, repository: Repository, manifest: Manifest, proof: Proof) -> None:
        """Link the manifest and all it names to the repository, in one transaction, and show them as `proof` allows."""
        raise NotImplementedError

    async def link(self, repository: Repository, digest: Digest) -> Link | None:
        """The repository's link to a blob; None when no manifest of it names the blob."""
        raise NotImplementedError

    async def see(self, seen: TagSeen) -> None:
        """Keep an observation of a tag, unless a newer one is kept already."""
        raise NotImplementedError

    async def seen(self, repository: Repository, tag: Tag) -> TagSeen | None:
        """The last observation of a tag; None when there is none."""
        raise NotImplementedError

    async def repositories_of(self, digest: Digest) -> tuple[Repository, ...]:
        """Every repository that names the blob."""
        raise NotImplementedError
