"""Which layer to fetch ahead: a client that lacks a layer lacks those behind it, for they are built upon it."""

from collections import OrderedDict
from itertools import pairwise
from typing import Final

from node.digest import Digest
from node.manifest import Manifest, Role
from node.reference import Repository

MOST_REMEMBERED: Final = 10_000


class Ahead:
    """Remembers the order of the layers in the manifests that were served."""

    def __init__(self) -> None:
        self._behind: OrderedDict[tuple[Repository, Digest], Digest] = OrderedDict()

    def served(self, repository: Repository, manifest: Manifest) -> None:
        """A client has been given this manifest, and may ask for its layers."""
        layers = [each.digest for each in manifest.names if each.role is Role.LAYER and each.distributable]
        for layer, behind in pairwise(layers):
            self._behind[repository, layer] = behind
            self._behind.move_to_end((repository, layer))
        while len(self._behind) > MOST_REMEMBERED:
            self._behind.popitem(last=False)

    def behind(self, repository: Repository, layer: Digest) -> Digest | None:
        """The layer behind `layer`; None when there is none, and of a config: tools read that alone."""
        return self._behind.get((repository, layer))
