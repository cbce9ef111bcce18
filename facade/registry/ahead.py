"""Which layer to fetch ahead: a client that lacks a layer lacks those behind it, for they are built upon it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from facade.registry.newest import remember
from node.digest import Digest
from node.manifest import Manifest, Role
from node.reference import Repository

MOST_REMEMBERED: Final = 10_000
AGAIN_S: Final = 300.0
"""A layer is fetched ahead once in so long: what keeps it from coming may last, while the one before is asked for."""


class Ahead:
    """Remembers the order of the layers in the manifests that were served. `clock` is monotonic (s)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._behind: dict[tuple[Repository, Digest], Digest] = {}
        self._begun: dict[tuple[Repository, Digest], float] = {}

    def served(self, repository: Repository, manifest: Manifest) -> None:
        """A client has been given this manifest, and may ask for its layers."""
        layers = [each.digest for each in manifest.names if each.role is Role.LAYER and each.distributable]
        for layer, behind in pairwise(layers):
            remember(self._behind, (repository, layer), behind, MOST_REMEMBERED)

    def begin(self, repository: Repository, layer: Digest) -> Digest | None:
        """The layer behind `layer`, to be fetched now.

        None when there is none, when it was begun lately, and of a config: tools read that alone.
        """
        behind, now = self._behind.get((repository, layer)), self._clock()
        if behind is None or now - self._begun.get((repository, behind), -AGAIN_S) < AGAIN_S:
            return None
        remember(self._begun, (repository, behind), now, MOST_REMEMBERED)
        return behind
