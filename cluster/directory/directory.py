"""Who holds what: the logs of all peers, looked up in memory, kept on disk."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

from cluster.config import Limits
from cluster.directory.disk import CacheError, LogCache
from cluster.directory.log import PeerLog, Update
from cluster.messages import LogPage
from node.catalog import Holding
from node.cid import Cid
from node.digest import Digest
from node.errors import FullError, InvalidError
from node.records import Kind, Record, time_of
from node.reference import Repository, Tag
from node.repositories import TagSeen

Merge = Callable[[Sequence[Record], str, int], Awaitable[int]]


class Directory:
    """The logs that were read, by peer id. Works on without a cache when there is none.

    `merge` keeps the records of own repositories that a member tells of, so many of each at most, in the catalog that
    `reader` names: where that begins anew, so does reading.
    """

    def __init__(
        self,
        cache: LogCache | None,
        limits: Limits,
        clock: Callable[[], float],
        merge: Merge,
        reader: Callable[[], str],
        by_cid: bool = False,
    ) -> None:
        self._by_cid = by_cid
        self._merge = merge
        self._reader = reader
        self._read_for = reader()
        self._cache = cache
        self._limits = limits
        self._clock = clock
        self._logs: dict[str, PeerLog] = {}
        self._left: set[str] = set()
        self.damage: str | None = None
        """What is wrong with the cache, for people."""

    def count(self, peer_id: str) -> int:
        """How many blobs a peer holds, as far as its log was read."""
        log = self._logs.get(peer_id)
        return 0 if log is None else len(log.blobs)

    def note(self, peer_id: str) -> str | None:
        """What people should know of what a peer says."""
        log = self._logs.get(peer_id)
        if log is None or not log.late:
            return None
        ahead_s = max(time_of(line.stamp) for line in log.late.values()) - self._clock()
        return (
            f"a clock is ahead, or was: {len(log.late)} of the records that it tells of are dated up to"
            f" {ahead_s:.0f} s after this node's time, and count when it has come"
        )

    def holdings(self, digest: Digest) -> Iterator[tuple[str, Holding, bool]]:
        """Every peer whose log names the blob, alive or not; and whether the peer proved that it says so."""
        for peer_id, log in self._logs.items():
            holding = log.holding(digest)
            if holding is not None:
                yield peer_id, holding, log.proven

    def rooted(self, cid: Cid) -> Iterator[tuple[str, Holding, bool]]:
        """As `holdings`, of the blobs with this root; none unless made to look `by_cid`."""
        for peer_id, log in self._logs.items():
            holding = log.rooted(cid)
            if holding is not None:
                yield peer_id, holding, log.proven

    def seen(self, repository: Repository, tag: Tag) -> Iterator[tuple[str, TagSeen]]:
        """Every member's observation of a tag."""
        for peer_id, log in self._logs.items():
            seen = log.tags.get((repository, tag)) if log.proven else None
            if seen is not None:
                yield peer_id, seen

    async def open(self, peer_id: str, *, proven: bool) -> PeerLog:
        """A peer's log to go on reading. What was read under another proof of who the peer is does not count."""
        log = self._logs.get(peer_id)
        if log is not None and log.proven == proven:
            return log
        self._left.discard(peer_id)
        log = self._logs[peer_id] = PeerLog(proven, roots={} if self._by_cid else None)
        try:
            await self._load(peer_id, log)
        except (CacheError, InvalidError) as error:
            self.damage = str(error)
            log.forget()
        return log

    async def _load(self, peer_id: str, log: PeerLog) -> None:
        kept = None if self._cache is None else await self._cache.find(peer_id, proven=log.proven)
        if self._cache is None or kept is None:
            return
        async for lines in self._cache.lines(peer_id):
            log.load(lines)
        log.log_id, log.since = kept.log_id, kept.since

    async def take(self, peer_id: str, log: PeerLog, page: LogPage) -> Update:
        """Add a page to a peer's log, here and on disk.

        Records first, for they say whose a blob is; but tags last, so that who asks for one finds who has its bytes.

        Raises:
            InvalidError: when the page contradicts itself, or the peer names more than is believed of one.
            FullError: when there is no room for what a member tells of own repositories: the page is to be read again.
        """
        now = self._clock()
        if self._reader() != self._read_for:
            return self._begin_anew(page)
        tags: list[Record] = []
        if log.proven:
            records = log.records(page, now)
            tags = [record for record in records if record.kind is Kind.TAG]
            others = [record for record in records if record.kind is not Kind.TAG]
            await self._merge(others, peer_id, self._limits.records_per_peer)
            if len(log.late_after(page, now)) > self._limits.late_records_per_peer:
                raise FullError(f"more than {self._limits.late_records_per_peer} are dated after this node's time")
        while self._left:
            await self.forget(self._left.pop())
        update = await self._apply(peer_id, log, page, tags, now)
        if len(log) > self._limits.entries_per_peer:
            await self.forget(peer_id)
            raise InvalidError(f"log: it has more than {self._limits.entries_per_peer} entries")
        if self._cache is not None and (update.fresh or update.gone or update.upto != update.since):
            try:
                await self._cache.keep(peer_id, update, now, proven=log.proven)
            except CacheError as error:
                self.damage = str(error)
        return update

    async def _apply(self, peer_id: str, log: PeerLog, page: LogPage, tags: list[Record], now: float) -> Update:
        late = log.late
        update = log.apply(page, now)
        try:
            await self._merge(tags, peer_id, self._limits.records_per_peer)
        except FullError:
            log.since, log.late = update.since, late  # to be read again
            raise
        return update

    def _begin_anew(self, page: LogPage) -> Update:
        """The catalog is another one since, which knows nothing of what was read before."""
        self._read_for = self._reader()
        for log in self._logs.values():
            log.forget()
        return Update(True, (), page.log, 0, 0)

    def largest(self) -> str | None:
        """The peer to forget when all logs together are more than is kept; members' go last."""
        if sum(map(len, self._logs.values())) <= self._limits.entries:
            return None
        return max(self._logs, key=lambda peer_id: (not self._logs[peer_id].proven, len(self._logs[peer_id])))

    def drop(self, peer_id: str, digest: Digest) -> None:
        """Do not believe any more that a peer holds a blob."""
        if peer_id in self._logs:
            self._logs[peer_id].drop(digest)

    def keep_only(self, peer_ids: Collection[str]) -> None:
        """Nobody looks for other peers any more: their logs are forgotten, on disk when something is written next."""
        for peer_id in self._logs.keys() - set(peer_ids):
            del self._logs[peer_id]
            self._left.add(peer_id)

    async def tidy(self) -> None:
        """Bound what earlier runs left on disk."""
        if self._cache is not None:
            try:
                await self._cache.prune(self._limits.entries)
            except CacheError as error:
                self.damage = str(error)

    async def forget(self, peer_id: str) -> None:
        """Believe nothing that a peer said."""
        log = self._logs.pop(peer_id, None)
        if log is not None:
            log.forget()
        if self._cache is not None:
            try:
                await self._cache.forget(peer_id)
            except CacheError as error:
                self.damage = str(error)
