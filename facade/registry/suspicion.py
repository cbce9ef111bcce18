"""Which blobs to doubt: a runtime that got a whole blob does not ask for it again soon, unless its bytes were wrong."""

from collections.abc import Callable
from typing import Final

from facade.registry.newest import remember
from node.digest import Digest

SOON_S: Final = 600.0
MOST_REMEMBERED: Final = 10_000


class Suspicion:
    """Remembers what was served whole from this disk, and what was looked at since. `clock` is monotonic (s)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._served: dict[Digest, float] = {}
        self._checked: dict[Digest, float] = {}

    def served(self, digest: Digest) -> None:
        """A client has been sent all of it."""
        remember(self._served, digest, self._clock(), MOST_REMEMBERED)

    def doubted(self, digest: Digest) -> bool:
        """Whether it should be verified before it is served again; says so once in ten minutes for each blob."""
        now = self._clock()
        served, checked = self._served.get(digest), self._checked.get(digest)
        if served is None or now - served > SOON_S or (checked is not None and now - checked <= SOON_S):
            return False
        remember(self._checked, digest, now, MOST_REMEMBERED)
        return True
