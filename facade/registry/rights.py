"""Whether a client may read a repository whose upstream judges clients by their own logins (access `passthrough`)."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from facade.registry.newest import remember
from facade.registry.requests import Asked, Form, Route
from facade.settings import Waits
from facade.upstream.client import Resolved
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import CLIENT, Login
from node.digest import Digest
from node.errors import LayermeshError, MismatchError, ThrottledError, UnreachableError
from node.reference import Repository, Tag
from node.repositories import Repositories
from node.visibility import Visibility

RIGHT_S: Final = 300.0
"""How long what upstream granted counts without asking again."""


class JudgingUpstream(Protocol):
    """The registries behind us, as those who know whom they let read."""

    def config(self, namespace: str) -> UpstreamConfig: ...

    async def resolve(self, repository: Repository, selector: Tag | Digest) -> Resolved: ...

    async def blob_size(self, repository: Repository, digest: Digest, expected: int | None = None) -> int: ...


class Rights:
    """Asks upstream with the client's login, by HEAD, and remembers what it granted for (login, repository).

    Registries grant whole repositories (distribution's token scopes, "repository:NAME:pull"); but some guard manifests
    alone, so that a blob opens blobs only. Silence opens nothing: what was proved public alone is served then.
    """

    def __init__(
        self,
        upstream: JudgingUpstream,
        repositories: Repositories,
        waits: Waits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._repositories = repositories
        self._waits = waits
        self._clock = clock
        self._granted: dict[tuple[Login | None, Repository, Route], float] = {}

    def judges(self, asked: Asked) -> bool:
        """Whether upstream is to say who may read this."""
        return asked.form is not Form.OWN and self._upstream.config(asked.repository.namespace).access is (
            Access.PASSTHROUGH
        )

    async def hidden(self, asked: Asked) -> LayermeshError | None:
        """None: the client may read all of the repository. Else why it may read only what is public in it.

        Raises:
            DeniedError, NotFoundError: upstream does not let this client read it, or has no such content.
            LayermeshError: upstream gives no answer, and it is a blob that is not public.
        """
        if not self.judges(asked) or asked.route not in (Route.MANIFEST, Route.BLOB):
            return None  # lists are upstream's own answers to the client
        key = (CLIENT.get(), asked.repository, asked.route)
        if self._may(key) or self._may((*key[:2], Route.MANIFEST)):
            return None
        if isinstance(asked.selector, Digest) and await self._is_public(asked.repository, asked.selector):
            return UnreachableError(f"{asked.repository}: it was not asked whether this client may read all of it")
        try:
            async with asyncio.timeout(self._waits.answer_s):
                proved = await self._prove(asked)
        except (UnreachableError, MismatchError, TimeoutError) as error:
            if asked.route is Route.BLOB:
                raise
            if isinstance(error, ThrottledError):
                return error
            return UnreachableError(
                f"{asked.repository}: upstream does not say who may read it: {error or 'no answer'}"
            )
        if proved:
            remember(self._granted, key, self._clock() + RIGHT_S)
        return None

    def _may(self, key: tuple[Login | None, Repository, Route]) -> bool:
        return self._clock() < self._granted.get(key, float("-inf"))

    async def check(self, asked: Asked, digest: Digest, hidden: LayermeshError | None) -> None:
        """Let a manifest that was found go to the client if that may read it.

        Raises:
            LayermeshError: `hidden`, where only what is public may be read, and this is not.
        """
        if hidden is not None and not await self._is_public(asked.repository, digest):
            raise hidden

    async def _prove(self, asked: Asked) -> bool:
        """Ask upstream for it. False: what it says holds for this blob alone.

        Anything may be answered with 200, such as a page to log in at: a blob has to be as long as its manifest says.
        """
        assert asked.selector is not None, "a manifest is asked for by tag or digest"
        if asked.route is Route.BLOB:
            link = await self._repositories.link(asked.repository, asked.digest)
            size = await self._upstream.blob_size(asked.repository, asked.digest, link.size if link else None)
            if link is not None and size != link.size:
                raise MismatchError(f"{asked.digest}: upstream says that it has {size} bytes, not {link.size}")
            return link is not None
        await self._upstream.resolve(asked.repository, await self._meant(asked.repository, asked.selector))
        return True

    async def _meant(self, repository: Repository, selector: Tag | Digest) -> Tag | Digest:
        """What upstream is asked for: of a tag that counts for what it meant here, that."""
        if isinstance(selector, Tag) and (seen := await self._repositories.seen(repository, selector)):
            policy = self._upstream.config(repository.namespace).tag_policy(selector)
            if policy.holds_s(time.time() - seen.seen_at) and not seen.lasting:
                return seen.digest
        return selector

    async def _is_public(self, repository: Repository, digest: Digest) -> bool:
        link = await self._repositories.link(repository, digest)
        return link is not None and link.visibility is Visibility.PUBLIC
