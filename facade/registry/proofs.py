"""What upstream has vouched for: that it has a manifest (good for a minute), that anybody may read it (for a day)."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from facade.background import Background
from facade.registry.newest import remember
from facade.settings import Waits
from facade.upstream.client import Resolved
from facade.upstream.config import UpstreamConfig
from node.catalog import Visibility
from node.digest import Digest
from node.errors import DeniedError, LayermeshError, ThrottledError, UnreachableError
from node.manifest import Manifest
from node.reference import Repository, Tag
from node.repositories import Link, Proof, Repositories

log = structlog.get_logger(__name__)
PROVE_AGAIN_S = 3600.0
UNPROVED = Proof(Visibility.PRIVATE)


class ProvingUpstream(Protocol):
    """The registries behind us, as witnesses."""

    def config(self, namespace: str) -> UpstreamConfig: ...

    def available(self, namespace: str) -> bool: ...

    async def resolve(self, repository: Repository, selector: Tag | Digest) -> Resolved: ...

    async def prove_public(self, repository: Repository, digest: Digest, *, whole: bool = False) -> bool: ...


class Proofs:
    """Remembers upstream's word in memory, writes publicness down, and asks again when it is due."""

    def __init__(
        self,
        background: Background,
        repositories: Repositories,
        upstream: ProvingUpstream,
        waits: Waits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._background = background
        self._repositories = repositories
        self._upstream = upstream
        self._waits = waits
        self._clock = clock
        self._confirmed: dict[tuple[Repository, Digest], float] = {}
        self._proved: dict[tuple[Repository, Digest], float] = {}
        self._proving: set[tuple[Repository, Digest]] = set()

    def confirm(self, repository: Repository, digest: Digest) -> None:
        """Upstream has just said that it has this manifest."""
        remember(self._confirmed, (repository, digest), self._clock())

    def confirmed(self, repository: Repository, digest: Digest) -> bool:
        """Whether upstream said so within the last minute and has not failed since."""
        at = self._confirmed.get((repository, digest))
        recent = at is not None and 0 <= self._clock() - at < self._waits.confirmed_s
        return recent and self._upstream.available(repository.namespace)

    def due(self, repository: Repository, digest: Digest) -> bool:
        """Whether publicness should be written down again."""
        proved = self._proved.get((repository, digest))
        return proved is None or not 0 <= self._clock() - proved < PROVE_AGAIN_S

    async def of_answer(self, repository: Repository, digest: Digest, anonymous: bool) -> Proof:
        """What an answer of upstream proves, read with credentials or without.

        Raises:
            DeniedError: when only credentials opened it, and no operator granted those to the facade's clients.
        """
        proof = await self._judge(repository, digest, anonymous)
        self.confirm(repository, digest)
        return proof

    async def _judge(self, repository: Repository, digest: Digest, anonymous: bool) -> Proof:
        config = self._upstream.config(repository.namespace)
        if config.public and (anonymous or not self.due(repository, digest)):
            return self._public()
        if not anonymous:
            if config.public and await self._upstream.prove_public(repository, digest):
                return self._public()
            if config.access == "refuse":
                raise DeniedError(f"{repository}: upstream gives it to credentials only; pull it directly")
        return UNPROVED

    async def record(self, repository: Repository, manifest: Manifest, proof: Proof) -> None:
        """Write down that the manifest and all it names belong to the repository, and what was proved of them."""
        if proof.visibility is Visibility.PUBLIC:
            remember(self._proved, (repository, manifest.digest), self._clock())
        await self._repositories.record(repository, manifest, proof)

    async def renew(self, repository: Repository, manifest: Manifest, link: Link, *, whole: bool) -> None:
        """Have a manifest that is here proved again where its proof has lapsed; with upstream silent it stays as it is.

        `whole`: it came from a member, who did not say that anybody may have it; so upstream has to show that it has
        it.

        Raises:
            DeniedError: when it is public no more.
        """
        if link.visibility is Visibility.PUBLIC or not self._may_prove(repository, manifest):
            return
        if self._upstream.config(repository.namespace).access != "refuse":  # who may have it does not hang on that
            self.renew_later(repository, manifest, whole=whole)
            return
        try:
            async with asyncio.timeout(self._waits.fallback_s):
                public = await self._upstream.prove_public(repository, manifest.digest, whole=whole)
        except ThrottledError:
            if link.visibility is Visibility.PRIVATE:
                raise  # a limit must not open what a proof kept shut
            return
        except (UnreachableError, TimeoutError):
            return
        if not public:
            raise DeniedError(f"{repository}: an anonymous client cannot read it any more")
        self.confirm(repository, manifest.digest)
        await self.record(repository, manifest, self._public())

    def renew_later(self, repository: Repository, manifest: Manifest, *, whole: bool) -> None:
        """Ask upstream beside the answer whether anybody may read what peers gave; peers are told when that is so.

        `whole` as in `renew`.
        """
        if self._may_prove(repository, manifest) and (repository, manifest.digest) not in self._proving:
            self._proving.add((repository, manifest.digest))
            self._background.start(self._prove(repository, manifest, whole), f"prove {repository}")

    def _may_prove(self, repository: Repository, manifest: Manifest) -> bool:
        public = self._upstream.config(repository.namespace).public
        return public and self.due(repository, manifest.digest) and self._upstream.available(repository.namespace)

    async def _prove(self, repository: Repository, manifest: Manifest, whole: bool) -> None:
        try:
            public = await self._upstream.prove_public(repository, manifest.digest, whole=whole)
            if public:
                self.confirm(repository, manifest.digest)
                await self.record(repository, manifest, self._public())
        except LayermeshError as error:
            log.info("not proved public", repository=str(repository), why=str(error))
        finally:
            self._proving.discard((repository, manifest.digest))

    def _public(self) -> Proof:
        return Proof(Visibility.PUBLIC, self._clock() + self._waits.proof_s)
