"""Manifests of mirrored repositories: from here, peers or upstream; and what a tag means when upstream is silent."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from cluster.cluster import Cluster, PeerState
from facade.background import Background
from facade.flights import Flights
from facade.ipfs import NO_IPFS, Ipfs
from facade.metrics import Metrics
from facade.neighbours import Neighbours
from facade.registry.near import fetch_manifest
from facade.registry.newest import remember
from facade.registry.obtainable import Obtainable
from facade.registry.once import Once
from facade.registry.proofs import UNPROVED, Proofs, ProvingUpstream
from facade.settings import Waits
from facade.sources import Offer, SourceName, allowed_by, offers
from facade.upstream.client import Fetched, Resolved
from facade.upstream.credentials import CLIENT, Login
from facade.upstream.tags import Rule, TagPolicy
from node.catalog import Visibility
from node.digest import Digest
from node.errors import (
    FullError,
    InvalidError,
    LayermeshError,
    MismatchError,
    NotFoundError,
    UnreachableError,
)
from node.manifest import Manifest, parse_manifest
from node.reference import Repository, Tag
from node.repositories import Proof, TagSeen
from node.store import Store

log = structlog.get_logger(__name__)
SEE_AGAIN_S = 60.0
LENT = Proof(Visibility.SHARED)
"""Members share it."""


class ManifestUpstream(ProvingUpstream, Protocol):
    """The registries behind us, as a source of manifests."""

    async def manifest(self, repository: Repository, selector: Tag | Digest) -> Fetched: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A manifest to serve, its source, and for a tag nobody confirmed: when (unix seconds) and by whom it was seen.

    `holds_s`: how long upstream need not be asked what this tag means; without end for a digest.
    """

    manifest: Manifest
    source: SourceName
    seen_at: float | None = None
    seen_by: str | None = None
    holds_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class _LastSeen:
    digest: Digest
    at: float
    by: str | None
    lasting: bool


@dataclass(frozen=True, slots=True)
class _Noted:
    """The last observation, and when one like it was written down."""

    seen: TagSeen
    written_at: float


class Manifests:
    """Answers for (repository, tag or digest); each question is asked once at a time."""

    def __init__(
        self,
        background: Background,
        store: Store,
        cluster: Cluster,
        flights: Flights,
        upstream: ManifestUpstream,
        waits: Waits,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        ipfs: Ipfs = NO_IPFS,
    ) -> None:
        self._ipfs = ipfs
        self._store = store
        self._cluster = cluster
        self._neighbours = Neighbours(store, cluster)
        self._upstream = upstream
        self._waits = waits
        self._metrics = metrics
        self._clock = clock
        self._obtainable = Obtainable(store, cluster, flights, ipfs)
        self._once: Once[tuple[Repository, Tag | Digest, Login | None], Answer] = Once(background)
        self._proofs = Proofs(background, store.repositories, upstream, waits, clock)
        self._seen: dict[tuple[Repository, Tag], _Noted] = {}

    async def get(self, repository: Repository, selector: Tag | Digest) -> Answer:
        """The manifest that `selector` names, if its blobs can be had now.

        Raises:
            NotFoundError: there is no such manifest, or its blobs cannot be had.
            DeniedError: an anonymous client could not read it.
            UnreachableError: upstream gave no answer, and nobody else knows it.
        """
        self._upstream.config(repository.namespace)
        if isinstance(selector, Tag):
            tag = selector
            return await self._once.share((repository, tag, CLIENT.get()), lambda: self._by_tag(repository, tag))
        digest = selector
        return await self._once.share((repository, digest, CLIENT.get()), lambda: self._by_digest(repository, digest))

    def brought(self, seen: TagSeen) -> None:
        """A file said what a tag means, which is kept already."""
        remember(self._seen, (seen.repository, seen.tag), _Noted(seen, seen.seen_at))

    async def all_here(self, manifest: Manifest) -> bool:
        """Whether every blob it names is on this disk."""
        return await self._obtainable.here(manifest)

    async def _by_tag(self, repository: Repository, tag: Tag) -> Answer:
        policy = self._upstream.config(repository.namespace).tag_policy(tag)
        own = await self._own(repository, tag)
        if own and (answer := await self._unasked(repository, own, policy)):
            return answer
        known = self._last_seen(repository, tag, own)
        if known is None and not self._has_peers():
            fetched = await self._upstream.manifest(repository, tag)  # one round trip: nobody near could have it
            return await self._first_seen(repository, tag, fetched, policy)
        resolved = await self._resolve(repository, tag, known, policy)
        if resolved is None:
            assert known is not None, "without a known meaning, a tag that cannot be resolved raises"
            answer = await self._by_digest(repository, known.digest)
            return replace(answer, seen_at=known.at, seen_by=known.by, holds_s=0.0)
        digest = resolved.descriptor.digest
        proof = await self._proofs.of_answer(repository, digest, resolved.anonymous)
        try:
            answer = await self._by_digest(repository, digest, proof)
        except NotFoundError:
            fetched = await self._upstream.manifest(repository, tag)
            if fetched.manifest.digest == digest:
                raise
            return await self._first_seen(repository, tag, fetched, policy)  # the header of the HEAD was wrong
        await self._see(repository, tag, digest, answer.manifest.media_type)
        return replace(answer, holds_s=policy.holds_s(0.0))

    async def _first_seen(self, repository: Repository, tag: Tag, fetched: Fetched, policy: TagPolicy) -> Answer:
        await self._keep(repository, fetched)
        await self._see(repository, tag, fetched.manifest.digest, fetched.manifest.media_type)
        return Answer(fetched.manifest, SourceName.UPSTREAM, holds_s=policy.holds_s(0.0))

    async def _unasked(self, repository: Repository, own: _LastSeen, policy: TagPolicy) -> Answer | None:
        """What upstream told this node of a tag, where the operator lets that count; None when upstream is to be asked.

        What members saw, or somebody brought, does not count here: it stands in for upstream while that cannot answer.
        """
        holds_s = 0.0 if own.lasting else policy.holds_s(self._clock() - own.at)
        if not holds_s:
            return None
        try:
            return replace(await self._by_digest(repository, own.digest), holds_s=holds_s)
        except NotFoundError:
            if policy.rule is Rule.PINNED:
                raise
            return None  # gone everywhere: the tag may mean something else by now

    async def _resolve(
        self, repository: Repository, tag: Tag, known: _LastSeen | None, policy: TagPolicy
    ) -> Resolved | None:
        """Upstream's word on a tag; None when it cannot answer (in time) and what the tag meant last counts."""
        counts = known is not None and policy.falls_back
        limit_s = self._waits.fallback_s if counts else None if policy.falls_back else self._waits.answer_s
        try:
            if counts and not self._upstream.available(repository.namespace):
                raise UnreachableError("upstream has just failed")
            async with asyncio.timeout(limit_s):
                return await self._upstream.resolve(repository, tag)
        except (UnreachableError, MismatchError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not counts:
                raise UnreachableError(f"{repository}: upstream does not say in time what {tag} means") from None
            if not counts:
                raise
            log.warning("tag not confirmed", repository=str(repository), tag=str(tag), why=str(error) or "no answer")
            return None

    async def _own(self, repository: Repository, tag: Tag) -> _LastSeen | None:
        """The last that upstream, or who brought it as a file, told this node of a tag."""
        noted = self._seen.get((repository, tag))
        seen = noted.seen if noted else await self._store.repositories.seen(repository, tag)
        return _LastSeen(seen.digest, seen.seen_at, None, seen.lasting) if seen else None

    def _last_seen(self, repository: Repository, tag: Tag, own: _LastSeen | None) -> _LastSeen | None:
        """The newest observation of this node or a member that is not too old; what was brought as a file never is."""
        now = self._clock()
        found = [own] if own else []
        member = self._cluster.tag(repository, tag, now)
        if member:
            found.append(_LastSeen(member.seen.digest, member.seen.seen_at, member.peer_name, member.seen.lasting))
        fresh = [one for one in found if one.lasting or now - one.at <= self._waits.stale_tag_s]
        return max(fresh, key=lambda one: one.at, default=None)

    def _has_peers(self) -> bool:
        return any(peer.state is PeerState.ALIVE for peer in self._cluster.peers())

    async def _see(self, repository: Repository, tag: Tag, digest: Digest, media_type: str) -> None:
        """Note what upstream says a tag means; the same again within a minute is not written down."""
        now = self._clock()
        seen = TagSeen(repository=repository, tag=tag, digest=digest, media_type=media_type, seen_at=now, size=0)
        last = self._seen.get((repository, tag))
        if last and last.seen.digest == digest and 0 <= now - last.written_at < SEE_AGAIN_S:
            remember(self._seen, (repository, tag), _Noted(seen, last.written_at))
            return
        remember(self._seen, (repository, tag), _Noted(seen, now))
        try:
            await self._store.repositories.see(seen)
        except FullError as error:
            log.warning("tag observation not kept", why=str(error))

    async def _by_digest(self, repository: Repository, digest: Digest, proof: Proof | None = None) -> Answer:
        manifest = await self._local(repository, digest, proof)
        if manifest is not None:
            await self._require_blobs(repository, manifest)
            return Answer(manifest, SourceName.LOCAL)
        manifest = await self._from_peers(repository, digest, proof)
        if manifest is not None:
            await self._require_blobs(repository, manifest)
            return Answer(manifest, SourceName.PEER)
        manifest = await self._from_ipfs(repository, digest, proof, late=False)
        if manifest is not None:
            await self._require_blobs(repository, manifest)
            return Answer(manifest, SourceName.IPFS)
        try:
            fetched = await self._upstream.manifest(repository, digest)
        except UnreachableError:
            manifest = await self._from_ipfs(repository, digest, proof, late=True)
            if manifest is None:
                raise
            await self._require_blobs(repository, manifest)
            return Answer(manifest, SourceName.IPFS)
        await self._keep(repository, fetched)
        return Answer(fetched.manifest, SourceName.UPSTREAM)

    async def _from_ipfs(
        self, repository: Repository, digest: Digest, proof: Proof | None, *, late: bool
    ) -> Manifest | None:
        """What the IPFS network has of it; its bytes are right, and who may see it is left to upstream's proof."""
        data = await self._ipfs.small(repository, digest, late=late)
        if data is None:
            return None
        self._metrics.fetched(SourceName.IPFS, len(data))
        try:
            manifest = _parsed(data, None, digest)
            await self._store.put(digest, data)
            await self._proofs.record(repository, manifest, proof or UNPROVED)
        except NotFoundError as error:
            log.info("ipfs gave no manifest", digest=str(digest), why=str(error))
            return None
        except FullError as error:
            log.warning("manifest not kept", digest=str(digest), why=str(error))
        if proof is None:
            self._proofs.renew_later(repository, manifest, whole=False)
        return manifest

    async def _local(self, repository: Repository, digest: Digest, proof: Proof | None) -> Manifest | None:
        """The manifest on this disk, if it belongs to this repository or anybody may read it."""
        link = await self._store.repositories.link(repository, digest)
        holding = await self._store.find(digest)
        if holding is None:
            return None
        is_public = holding.visibility is Visibility.PUBLIC
        if not is_public and not await self._store.repositories.confirmed(repository, digest):
            return None  # that upstream names it (HEAD) proves nothing of what is hidden here: it has to give it
        try:
            manifest = _parsed(await self._store.load(digest), link.media_type if link else None, digest)
        except NotFoundError:
            return None
        from_members = holding.visibility in (Visibility.MEMBERS, Visibility.SHARED)
        try:
            if proof is None and link is not None:
                await self._proofs.renew(repository, manifest, link, whole=from_members)
            elif proof is not None and from_members:
                self._proofs.renew_later(repository, manifest, whole=True)
            elif proof is not None and (link is None or self._proofs.due(repository, digest)):
                await self._proofs.record(repository, manifest, proof)
        except FullError as error:
            log.warning("proof not kept", digest=str(digest), why=str(error))
        return manifest

    async def _from_peers(self, repository: Repository, digest: Digest, proof: Proof | None) -> Manifest | None:
        limit_s = self._waits.nearby_s if self._upstream.available(repository.namespace) else self._waits.fallback_s
        deadline = asyncio.get_running_loop().time() + limit_s
        for offer in offers(await self._neighbours.holders(repository, digest), None):
            try:
                async with asyncio.timeout_at(deadline):
                    data = await fetch_manifest(self._store, self._cluster, repository, digest, offer)
                    self._metrics.fetched(SourceName.PEER, len(data))
                    manifest = _parsed(data, None, digest)
            except (LayermeshError, TimeoutError) as error:
                log.info("peers gave no manifest", digest=str(digest), why=str(error) or "no answer in time")
                if isinstance(error, MismatchError):
                    self._cluster.blame(digest, offer.holders[0].cid)
                continue
            is_public = allowed_by(offer.holders) is Visibility.PUBLIC
            try:  # upstream's word on a digest makes nothing public that members keep among themselves
                await self._proofs.record(
                    repository, manifest, proof if proof and is_public else self._word_of(repository, offer)
                )
            except FullError as error:
                log.warning("manifest's links not kept", digest=str(digest), why=str(error))
            if proof is None or not is_public:
                self._proofs.renew_later(repository, manifest, whole=not is_public)
            return manifest
        return None

    def _word_of(self, repository: Repository, offer: Offer) -> Proof:
        """Who may see what these peers gave, as far as it hangs on them; their word opens no name that is private."""
        if allowed_by(offer.holders) is Visibility.SHARED:
            return LENT
        if not (offer.believed and self._upstream.config(repository.namespace).public):
            return UNPROVED
        return Proof(Visibility.MEMBERS, self._clock() + self._waits.proof_s)

    async def _keep(self, repository: Repository, fetched: Fetched) -> None:
        """Store what upstream gave; a full disk only means that it is not kept."""
        manifest = fetched.manifest
        self._metrics.fetched(SourceName.UPSTREAM, len(manifest.data))
        proof = await self._proofs.of_answer(repository, manifest.digest, fetched.anonymous)
        try:
            await self._store.put(manifest.digest, manifest.data)
            await self._proofs.record(repository, manifest, proof)
        except FullError as error:
            log.warning("manifest not kept", digest=str(manifest.digest), why=str(error))

    async def _require_blobs(self, repository: Repository, manifest: Manifest) -> None:
        """Pass when every blob is here, around, or upstream vouches for the manifest.

        Raises:
            NotFoundError: when some blob cannot be had anywhere.
        """
        if self._proofs.confirmed(repository, manifest.digest) or await self._obtainable.here(manifest):
            return
        if await self._obtainable.around(repository, manifest):
            return
        try:
            async with asyncio.timeout(self._waits.answer_s):
                await self._upstream.resolve(repository, manifest.digest)
        except (LayermeshError, TimeoutError) as error:
            if isinstance(error, UnreachableError | TimeoutError) and await self._in_time(repository, manifest):
                return
            raise NotFoundError(f"{manifest.digest}: its blobs are not all here, and upstream: {error}") from None
        self._proofs.confirm(repository, manifest.digest)

    async def _in_time(self, repository: Repository, manifest: Manifest) -> bool:
        """Whether the blobs can be had where upstream gives no answer, and IPFS may take longer to show it."""
        try:
            async with asyncio.timeout(self._waits.answer_s):
                return await self._obtainable.around(repository, manifest, late=True)
        except TimeoutError:
            return False


def _parsed(data: bytes, media_type: str | None, digest: Digest) -> Manifest:
    """Read a manifest whose bytes are right; a media type that somebody else's link says counts only if it fits."""
    try:
        return parse_manifest(data, media_type, digest)
    except InvalidError:
        pass
    try:
        return parse_manifest(data, None, digest)
    except InvalidError as error:
        raise NotFoundError(f"{digest}: it is no manifest: {error}") from None
