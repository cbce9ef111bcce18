"""Which repository names which content, and who may see it through that repository."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from node.announcing import show
from node.connection import Row, Transaction
from node.database import Database
from node.digest import Digest
from node.holding import Link as Link
from node.holding import TagSeen as TagSeen
from node.holding import digest_of, key_of
from node.manifest import Descriptor, Manifest, Role
from node.reference import Repository, Tag
from node.remembered import Remembered
from node.visibility import Proof as Proof
from node.visibility import Shown, Visibility

RELOG_AFTER_S: Final = 60.0
"""A tag that still means the same is logged again when its last logged observation is older than this."""


_KEPT_IN_MEMORY: Final = 8192
_LINKED: Final = "media_type, size, role, public_until, members_until"


@dataclass(frozen=True, slots=True)
class _Linked:
    """A row of `links`; whom it shows the blob to depends on the time."""

    media_type: str
    size: int
    role: Role
    shown: Shown


class Repositories:
    """The repositories known to this node: links and tag observations, in the catalog's database."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._links: Remembered[tuple[int, Repository, Digest], _Linked | None] = Remembered(_KEPT_IN_MEMORY)
        """By the database's epoch as well: one that began anew has no links."""

    async def record(self, repository: Repository, manifest: Manifest, proof: Proof) -> tuple[Descriptor, ...]:
        """Link the manifest and all it names to the repository, in one transaction, and show them as `proof` allows.

        Anybody can name any digest. So what is here already and fewer may see than `proof` says stays as it is, and is
        returned: it is shown once its bytes came from the repository.

        What an index that was recorded before allows its manifest to show is inherited by what the manifest names. A
        proof never takes back what an earlier one allows: that ends when it expires.

        Raises:
            FullError: when the catalog cannot be written.
        """
        itself = Descriptor(manifest.media_type, manifest.digest, len(manifest.data), Role.MANIFEST)

        def job(transaction: Transaction) -> tuple[Descriptor, ...]:
            where = _repository_id(transaction, repository)
            shown = Shown.by(proof) | _shown(transaction, where, manifest.digest)
            links = _link(transaction, where, (itself,), shown, _KNOWN_ITSELF)
            links |= _link(transaction, where, manifest.names, shown, _KNOWN_BY_NAME)
            _note_fetched(transaction, where, manifest.digest)
            hidden = partial(_is_hidden, transaction, proof, self._clock())
            withheld = tuple(each for each in manifest.names if hidden(each.digest))
            for digest in links.keys() - {each.digest for each in withheld}:
                show(transaction, key_of(digest), shown, self._clock())
            self._log_tags(transaction, where)
            transaction.afterwards.append(partial(self._learn, repository, links))
            return withheld if shown != Shown() else ()

        return await self._database.write(job)

    async def confirmed(self, repository: Repository, digest: Digest) -> bool:
        """Whether the blob really came from this repository, or was seen there; a link alone is only a claim.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        rows = await self._database.read(
            "SELECT 1 FROM fetched JOIN repositories ON id = repository"
            " WHERE namespace = ? AND name = ? AND digest = ?",
            (repository.namespace, repository.name, key_of(digest)),
        )
        return bool(rows)

    async def show(self, repository: Repository, digest: Digest, proof: Proof) -> None:
        """The repository has just shown a blob that is here: let it be seen as `proof` allows.

        Raises:
            FullError: when the catalog cannot be written.
        """

        def job(transaction: Transaction) -> None:
            _note_fetched(transaction, _repository_id(transaction, repository), digest)
            show(transaction, key_of(digest), Shown.by(proof), self._clock())

        await self._database.write(job)

    async def admit(
        self, repository: Repository, manifests: Sequence[Manifest], proof: Proof, seen: TagSeen | None = None
    ) -> None:
        """Enter an image that an operator brought, all bytes of which are here: links, proof and tag, or nothing.

        Raises:
            FullError: when the catalog cannot be written.
        """

        def job(transaction: Transaction) -> None:
            where, shown = _repository_id(transaction, repository), Shown.by(proof)
            links: dict[Digest, _Linked] = {}
            for manifest in manifests:
                itself = Descriptor(manifest.media_type, manifest.digest, len(manifest.data), Role.MANIFEST)
                links |= _link(transaction, where, manifest.names, shown, _KNOWN_BY_NAME)
                links |= _link(transaction, where, (itself,), shown, _KNOWN_ITSELF)
            for digest in links:
                _note_fetched(transaction, where, digest)
                show(transaction, key_of(digest), shown, self._clock())
            if seen is not None:
                _note_tag(transaction, where, seen)
            self._log_tags(transaction, where)
            transaction.afterwards.append(partial(self._learn, repository, links))

        await self._database.write(job, durable=True)

    async def link(self, repository: Repository, digest: Digest) -> Link | None:
        """The repository's link to a blob; None when no manifest of it names the blob.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        key = (self._database.epoch, repository, digest)
        linked = await self._links.of(key, lambda: self._read_link(repository, digest))
        if linked is None:
            return None
        visibility = linked.shown.at(self._clock())
        return Link(repository, digest, linked.media_type, linked.size, linked.role, visibility)

    async def see(self, seen: TagSeen) -> None:
        """Keep an observation of a tag, unless a newer one is kept already.

        Raises:
            FullError: when the catalog cannot be written.
        """

        def job(transaction: Transaction) -> None:
            where = _repository_id(transaction, seen.repository)
            _note_tag(transaction, where, seen)
            self._log_tags(transaction, where)

        await self._database.write(job)

    async def seen(self, repository: Repository, tag: Tag) -> TagSeen | None:
        """The last observation of a tag; None when there is none.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        rows = await self._database.read(
            "SELECT digest, media_type, seen_at, size, lasting FROM tags JOIN repositories ON id = repository"
            " WHERE namespace = ? AND name = ? AND tag = ?",
            (repository.namespace, repository.name, tag.text),
        )
        for key, media_type, seen_at, size, lasting in rows:
            return TagSeen(repository, tag, digest_of(key), media_type, seen_at, size, bool(lasting))
        return None

    async def repositories_of(self, digest: Digest) -> tuple[Repository, ...]:
        """Every repository that names the blob.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        rows = await self._database.read(
            "SELECT namespace, name FROM links JOIN repositories ON id = repository WHERE digest = ?"
            " ORDER BY namespace, name",
            (key_of(digest),),
        )
        return tuple(Repository(namespace, name) for namespace, name in rows)

    async def _read_link(self, repository: Repository, digest: Digest) -> _Linked | None:
        rows = await self._database.read(
            f"SELECT {_LINKED} FROM links JOIN repositories ON id = repository"
            " WHERE namespace = ? AND name = ? AND digest = ?",
            (repository.namespace, repository.name, key_of(digest)),
        )
        return _linked(rows[0]) if rows else None

    async def _learn(self, repository: Repository, links: Mapping[Digest, _Linked]) -> None:
        epoch = self._database.epoch
        self._links.learn({(epoch, repository, digest): linked for digest, linked in links.items()})

    def _log_tags(self, transaction: Transaction, where: int) -> None:
        """Log the repository's tags that say something new, or anew, and whose manifest may be seen."""
        now = self._clock()
        rows = transaction.rows(
            "SELECT tag FROM tags JOIN links USING (repository, digest) WHERE repository = ?"
            " AND seen_at >= logged_at + ? AND (public_until > ? OR members_until > ?)",
            (where, RELOG_AFTER_S, now, now),
        )
        for (tag,) in rows:
            transaction.run(
                "UPDATE tags SET seq = ?, logged_at = seen_at WHERE repository = ? AND tag = ?",
                (transaction.next_seq(), where, tag),
            )


_KNOWN_ITSELF: Final = "media_type = excluded.media_type, size = excluded.size, role = excluded.role,"
_KNOWN_BY_NAME: Final = "size = excluded.size,"


def _link(
    transaction: Transaction, where: int, named: Sequence[Descriptor], shown: Shown, known: str
) -> dict[Digest, _Linked]:
    """Link what is named; returns the links as they are now."""
    until = (shown.public_until, shown.members_until)
    sql = (
        f"INSERT INTO links VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {known}"
        " public_until = max(public_until, excluded.public_until),"
        f" members_until = max(members_until, excluded.members_until) RETURNING {_LINKED}"
    )
    links = {}
    for each in named:
        values = (where, key_of(each.digest), each.media_type, each.size, each.role, *until)
        links[each.digest] = _linked(transaction.rows(sql, values)[0])
    return links


def _linked(row: Row) -> _Linked:
    media_type, size, role, public_until, members_until = row
    return _Linked(media_type, size, Role(role), Shown(public_until, members_until))


def _note_fetched(transaction: Transaction, where: int, digest: Digest) -> None:
    transaction.run("INSERT OR IGNORE INTO fetched VALUES (?, ?)", (where, key_of(digest)))


def _note_tag(transaction: Transaction, where: int, seen: TagSeen) -> None:
    transaction.run(
        "INSERT INTO tags (repository, tag, digest, media_type, size, seen_at, seq, logged_at, lasting)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT DO UPDATE SET"
        " logged_at = CASE WHEN digest = excluded.digest AND lasting = excluded.lasting THEN logged_at ELSE 0 END,"
        " digest = excluded.digest, media_type = excluded.media_type, size = excluded.size,"
        " seen_at = excluded.seen_at, lasting = excluded.lasting"
        " WHERE excluded.seen_at >= seen_at OR excluded.lasting",
        (where, seen.tag.text, key_of(seen.digest), seen.media_type, seen.size, seen.seen_at, seen.lasting),
    )


def _is_hidden(transaction: Transaction, proof: Proof, now: float, digest: Digest) -> bool:
    """Whether a blob is here, and fewer may see it than the proof says."""
    row = transaction.row("SELECT public_until, members_until FROM blobs WHERE digest = ?", (key_of(digest),))
    if row is None:
        return False
    visible = Shown(*row).at(now)
    return visible is Visibility.PRIVATE or (visible is Visibility.MEMBERS and proof.visibility is Visibility.PUBLIC)


def _shown(transaction: Transaction, where: int, digest: Digest) -> Shown:
    row = transaction.row(
        "SELECT public_until, members_until FROM links WHERE repository = ? AND digest = ?", (where, key_of(digest))
    )
    return Shown(*row) if row else Shown()


def _repository_id(transaction: Transaction, repository: Repository) -> int:
    names = (repository.namespace, repository.name)
    row = transaction.row("SELECT id FROM repositories WHERE namespace = ? AND name = ?", names)
    if row is None:
        return transaction.insert("INSERT INTO repositories (namespace, name) VALUES (?, ?)", names)
    return int(row[0])
