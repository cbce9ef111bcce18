"""What the change log is told of a blob: one row for each, a new number replaces the old row."""

from typing import Final

from node.connection import Row, Transaction
from node.sharing import tell_members
from node.visibility import FOREVER, Shown, Visibility

LEVELS: Final = {Visibility.PRIVATE: 0, Visibility.SHARED: 0, Visibility.MEMBERS: 1, Visibility.PUBLIC: 2}
"""What the log says of a digest alone; that it is shared is told with its repositories."""


def announce(transaction: Transaction, key: bytes, now: float) -> None:
    """Log what the blob's row says now, if that is news to anyone."""
    transaction.touched.add(key)
    row = transaction.row("SELECT public_until, members_until FROM blobs WHERE digest = ?", (key,))
    level = LEVELS[Shown(*row).at(now)] if row else 0
    logged = transaction.row("SELECT level, highest FROM changes WHERE digest = ?", (key,))
    was, highest = logged or (0, 0)
    if level != was:
        values = (transaction.next_seq(), key, level, max(level, highest))
        transaction.run("INSERT OR REPLACE INTO changes (seq, digest, level, highest) VALUES (?, ?, ?, ?)", values)
    tell_members(transaction, key)


def show(transaction: Transaction, key: bytes, shown: Shown, now: float) -> None:
    """Let a blob that is here be seen as `shown` says as well, and log that."""
    held: Row | None = transaction.row("SELECT public_until, members_until FROM blobs WHERE digest = ?", (key,))
    if held is None or Shown(*held) | shown == Shown(*held):
        return
    transaction.run(
        "UPDATE blobs SET public_until = max(public_until, ?), members_until = max(members_until, ?) WHERE digest = ?",
        (shown.public_until, shown.members_until, key),
    )
    announce(transaction, key, now)


def withdraw(transaction: Transaction, key: bytes, now: float) -> None:
    """Show members a blob no longer that was theirs for good, and log that."""
    transaction.run("UPDATE blobs SET members_until = 0 WHERE digest = ? AND members_until = ?", (key, FOREVER))
    announce(transaction, key, now)
