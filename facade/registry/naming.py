"""What the manifests of own repositories name, so that no blob is taken from under one that lives."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from facade.registry.near import BRING_S, Bringing
from facade.registry.newest import remember
from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.manifest import MAX_MANIFEST_BYTES, parse_manifest
from node.records import Content
from node.reference import OWN, Repository
from node.store import Store

_AT_ONCE: Final = 500
_REMEMBERED: Final = 8192


class Naming:
    """Looks through the manifests of a repository."""

    def __init__(self, store: Store, bringing: Bringing) -> None:
        self._store = store
        self._bringing = bringing
        self._names: dict[Digest, frozenset[Digest]] = {}

    async def by(self, repository: str, digest: Digest) -> Digest | None:
        """A manifest of the repository that names the blob; None when none does of those that are to be had now.

        Those that members give too slowly, all together, are left out.

        Raises:
            UnreachableError: when the catalog cannot be read.
            FullError: when the disk has no room for a manifest that another member has.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + BRING_S
        async for content in self._manifests(repository):
            if digest in await self._named(repository, content, bring=clock() < until):
                return content.digest
        return None

    async def _manifests(self, repository: str) -> AsyncIterator[Content]:
        after = ""
        while found := await self._store.owned.manifests(repository, after, _AT_ONCE):
            for content in found:
                yield content
            after = str(found[-1].digest)

    async def _named(self, repository: str, content: Content, *, bring: bool) -> frozenset[Digest]:
        names = self._names.get(content.digest)
        if names is None:
            if content.size > MAX_MANIFEST_BYTES:
                return frozenset()
            try:
                holding = await self._store.find(content.digest)
                if holding is None or holding.visibility.hidden:
                    if not bring:
                        return frozenset()
                    await self._bringing.bring(Repository(OWN, repository), (content.digest,))
                data = await self._store.load(content.digest)
                manifest = parse_manifest(data, content.media_type, content.digest)
            except (NotFoundError, InvalidError):  # nobody has it, or a member made it up: nobody is given it
                return frozenset()
            names = frozenset(each.digest for each in manifest.names)
            remember(self._names, content.digest, names, _REMEMBERED)
        return names
