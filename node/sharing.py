"""Who else may have private content: members, and this node's clients, as far as an operator says so.

Table `sharing` has the registry namespaces whose content an operator shares, `shared` what the log says: a row for each
repository and digest that it ever told of, and whether it still holds. What a repository really gave (table `fetched`)
is told, and nothing that is only claimed; `fetched.lent` marks what came from a member and not from the registry.
Table `granted` has the registry namespaces whose private content clients get: all of them, or those who prove a right.
"""

from collections.abc import Collection, Mapping
from typing import Final

from node.connection import Transaction

_GIVEN: Final = (
    "SELECT fetched.repository, fetched.digest FROM fetched JOIN repositories ON repositories.id = fetched.repository"
    " JOIN sharing ON sharing.namespace = repositories.namespace"
)
_TELL: Final = "INSERT OR REPLACE INTO shared (digest, repository, shown, seq) VALUES (?, ?, ?, ?)"
TAG_SHARED: Final = (
    "EXISTS (SELECT 1 FROM shared WHERE shared.repository = tags.repository AND shared.digest = tags.digest AND shown)"
)
"""Whether members may know of a tag, for it means a manifest that they may have."""


def tell_members(transaction: Transaction, key: bytes) -> None:
    """Log for which repositories members may have a blob, if that is news."""
    rows = transaction.rows("SELECT repository, shown FROM shared WHERE digest = ?", (key,))
    told = {int(repository): bool(shown) for repository, shown in rows}
    given = {int(row[0]) for row in transaction.rows(f"{_GIVEN} WHERE fetched.digest = ?", (key,))}
    if (given or told) and transaction.row("SELECT 1 FROM blobs WHERE digest = ?", (key,)) is None:
        given = set()
    for repository in given | told.keys():
        shown = repository in given
        if shown != told.get(repository, False):
            transaction.run(_TELL, (key, repository, shown, transaction.next_seq()))
            transaction.touched.add(key)


def note_given(transaction: Transaction, repository: int, key: bytes, *, lent: bool) -> None:
    """A repository really had a blob; `lent`, as members say that share it. The registry's word is worth more."""
    sql = "INSERT INTO fetched VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lent = min(lent, excluded.lent)"
    transaction.run(sql, (repository, key, lent))


def share(transaction: Transaction, namespaces: Collection[str]) -> bool:
    """Let members have what came from these registry namespaces, and from no others; whether that is another choice.

    Where it is, the log has to be read anew, under another name: so what was shown before is forgotten by all who read
    it. What members lent from a namespace that is not shared any more counts for nothing here.
    """
    if {str(name) for (name,) in transaction.rows("SELECT namespace FROM sharing")} == set(namespaces):
        return False
    transaction.run("DELETE FROM sharing")
    transaction.run_many("INSERT INTO sharing VALUES (?)", [(name,) for name in sorted(namespaces)])
    transaction.run(
        "DELETE FROM fetched WHERE lent AND repository NOT IN"
        " (SELECT id FROM repositories JOIN sharing ON sharing.namespace = repositories.namespace)"
    )
    transaction.run("DELETE FROM shared")
    given = transaction.rows(f"{_GIVEN} JOIN blobs ON blobs.digest = fetched.digest")
    transaction.run_many(_TELL, [(key, repository, True, transaction.next_seq()) for repository, key in given])
    tags = transaction.rows(f"SELECT repository, tag FROM tags WHERE {TAG_SHARED}")
    sql = "UPDATE tags SET seq = ?, logged_at = seen_at WHERE repository = ? AND tag = ?"
    transaction.run_many(sql, [(transaction.next_seq(), repository, tag) for repository, tag in tags])
    return True


def grant(transaction: Transaction, namespaces: Mapping[str, bool]) -> None:
    """Let clients have private content of these registry namespaces: all (True), or those who prove a right (False).

    What came while another rule held counts as never fetched, except for who proves a right: so the registry is asked
    whether this rule gives it.
    """
    for name, to_all in transaction.rows("SELECT namespace, to_all FROM granted"):
        if namespaces.get(str(name)) not in (bool(to_all), False):
            sql = "DELETE FROM fetched WHERE repository IN (SELECT id FROM repositories WHERE namespace = ?)"
            transaction.run(sql, (name,))
    transaction.run("DELETE FROM granted")
    transaction.run_many("INSERT INTO granted VALUES (?, ?)", list(namespaces.items()))
