"""Whole images by name, for who takes them away as files: found as for a client without a login, and fetched."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from facade.flight import Flight
from facade.registry.blobs import Blobs
from facade.registry.manifests import Manifests
from facade.registry.own import Own
from facade.registry.problems import Problem
from facade.registry.requests import Asked, Form, Route
from facade.registry.rights import Rights
from facade.settings import Waits
from node.digest import Digest
from node.errors import DeniedError, NotFoundError, UnreachableError
from node.manifest import Manifest
from node.reference import OWN, Repository, Tag


class Images:
    """Finds manifests and has blobs fetched; what a client of the facade may not read is not to be had here either."""

    def __init__(self, manifests: Manifests, blobs: Blobs, own: Own, rights: Rights, waits: Waits) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._own = own
        self._rights = rights
        self._waits = waits

    async def manifest(self, repository: Repository, selector: Tag | Digest) -> Manifest:
        """The manifest that a tag or digest names, if its blobs can be had now.

        Raises:
            LayermeshError: as for a client of the facade.
        """
        asked = _asked(Route.MANIFEST, repository, selector)
        find = self._own.manifest if asked.form is Form.OWN else self._manifests.get
        with _in_words():
            hidden = await self._rights.hidden(asked)
            try:
                async with asyncio.timeout(self._waits.patience_s):
                    answer = await find(repository, selector)
            except TimeoutError:
                raise UnreachableError(f"{repository}: no source answered in time") from None
            await self._rights.check(asked, answer.manifest.digest, hidden)
            return answer.manifest

    async def flight(self, repository: Repository, digest: Digest) -> Flight | None:
        """The flight that brings a blob of the repository here; None when it is here.

        Raises:
            LayermeshError: as for a client of the facade.
        """
        asked = _asked(Route.BLOB, repository, digest)
        with _in_words():
            await self._rights.hidden(asked)  # a blob is hidden by an error alone
            return await self._blobs.flight(asked)

    async def require(self, repository: Repository, digest: Digest) -> None:
        """Pass when a blob of the repository is here.

        Raises:
            NotFoundError: when it is not.
            LayermeshError: as for a client of the facade.
        """
        asked = _asked(Route.BLOB, repository, digest)
        with _in_words():
            await self._rights.hidden(asked)
            if not await self._blobs.here(asked):
                raise NotFoundError(f"{digest}: it is not here any more")


@contextmanager
def _in_words() -> Iterator[None]:
    """An answer that clients of the facade would get is an error like all others here."""
    try:
        yield
    except Problem as problem:
        kind = {401: DeniedError, 403: DeniedError, 404: NotFoundError}.get(problem.status, UnreachableError)
        raise kind(problem.message) from None


def _asked(route: Route, repository: Repository, selector: Tag | Digest) -> Asked:
    form = Form.OWN if repository.namespace == OWN else Form.FULL_NAME
    return Asked(form, route, repository, selector)
