"""IPFS gateways as sources: a Kubo's, another cluster's, or a public one.

They are asked for raw blocks alone, which every gateway serves, and each is verified. Who has a file is asked of
all at once, and what they have at hand counts: a pull waits a moment for them, and never for one that owes an answer.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog
from yarl import URL

from cluster.cluster import Cluster
from cluster.config import Limits, Timings
from cluster.penalties import Penalties, Penalty
from cluster.swarm.swarm import Faults, Source, Swarm
from facade.background import Background
from facade.mappings import Mappings, cid_of_small
from facade.sources import NetworkFile, NetworkName, Offer, SourceName
from facade.upstream.proxies import Proxies
from node.cid import Cid
from node.digest import Digest
from node.errors import LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.gateway import AT_HAND, GatewayClient
from node.ipfs.reading import GatewayReading
from node.reference import Repository
from node.source import Sink, Wanted
from node.store import Store

log = structlog.get_logger(__name__)
FOUND_S: Final = 0.25
"""How long a pull waits to hear who has a file."""
_OTHERS_S: Final = 0.03
"""How long it waits for others once one has it."""
_LATEST_S: Final = 2.0
"""A gateway that has not answered by then is set aside."""
FIRST_S: Final = 1.0
"""How long those that have a file may take for its first leaf."""
NEXT_S: Final = 3.0
"""How long they may take for the next: a client that has begun to read waits 5 s at most."""
_TIMINGS: Final = Timings(set_aside_s=30.0)
_LIMITS: Final = Limits(requests_in_flight=8, requests_per_peer=4)


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """One gateway, for people. `set_aside`: why it is not asked at present."""

    url: str
    set_aside: str | None
    received_bytes: int


class Gateways:
    """The gateways of this node. Made by `open_gateways`."""

    def __init__(self, urls: Sequence[URL], client: GatewayClient, background: Background, timings: Timings) -> None:
        self._urls = tuple(urls)
        self._client = client
        self._background = background
        self._timings = timings
        self._penalties = Penalties(timings)
        self._owing: set[URL] = set()
        """Those of which an answer is still awaited, after a pull went on without it."""
        self._received: Counter[URL] = Counter()
        self._swarm = Swarm(client, timings, _LIMITS, self._faults())
        self.reading = GatewayReading(client, self.having, self._failed)

    def status(self) -> tuple[GatewayStatus, ...]:
        """Each of them, in the order in which they were given."""
        return tuple(GatewayStatus(str(url), self._reason(url), self._received[url]) for url in self._urls)

    async def having(self, cid: Cid, *, late: bool = False) -> tuple[URL, ...]:
        """Those that have a block at hand, as far as they say so within a quarter of a second.

        `late`: those as well that are set aside for anything but a lie.
        """
        loop = asyncio.get_running_loop()
        usable = [url for url in self._urls if url not in self._owing and self._may_be_asked(url, late=late)]
        asked = {url: loop.create_future() for url in usable}
        for url, answer in asked.items():
            self._background.start(self._ask(url, cid, answer), f"ask {url}")
        until, left = loop.time() + FOUND_S, set(asked.values())
        while left and (limit_s := until - loop.time()) > 0:
            done, left = await asyncio.wait(left, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if any(answer.result() for answer in done):
                until = min(until, loop.time() + _OTHERS_S)
        self._owing.update(url for url, answer in asked.items() if not answer.done())
        return tuple(url for url, answer in asked.items() if answer.done() and answer.result())

    async def fetch(self, file: NetworkFile, digest: Digest, sink: Sink, *, late: bool = False) -> None:
        """Write a file from `sink.prefix` on, from those that are `having` it.

        Who is cancelled while the file is awaited was too slow, and is set aside.

        Raises:
            NotFoundError: when none has it, or says so in time.
            UnreachableError: when no gateway is left that gives bytes in time; what was written stays.
            MismatchError: when `cid` is none of a file of this size.
            FullError: when the disk has no room.
        """
        cid, found = file.cid, await self.having(file.cid, late=late)
        if not found:
            raise NotFoundError(f"{cid}: no gateway has it")
        loop, asked = asyncio.get_running_loop(), set[URL]()
        looking: asyncio.TimerHandle

        def look(before: int) -> None:
            nonlocal looking
            if sink.prefix == before:
                limit.reschedule(loop.time())
            else:
                looking = loop.call_later(NEXT_S, look, sink.prefix)

        looking = loop.call_later(FIRST_S, look, sink.prefix)
        try:
            async with asyncio.timeout(None) as limit:
                await self._swarm.fetch(cid, file.size, [_source(url, digest, asked) for url in found], sink)
        except asyncio.CancelledError:
            if file.awaited:
                self._too_slow(asked)
            raise
        except TimeoutError:
            self._too_slow(asked)
            raise UnreachableError(f"{cid}: gateways that have it give it too slowly") from None
        finally:
            looking.cancel()

    async def block(self, cid: Cid, *, within_s: float | None = None, late: bool = False) -> bytes | None:
        """A block from the first that gives it, each within `within_s` at most, verified; None when none does.

        `late`: as for `having`.
        """
        for url in await self.having(cid, late=late):
            try:
                async with asyncio.timeout(within_s or self._timings.leaf_s):
                    data = await self._client.block(url, cid, headers=AT_HAND)
            except NotFoundError:
                continue
            except (LayermeshError, TimeoutError) as error:
                self._failed(url, error)
                continue
            self._received[url] += len(data)
            return data
        return None

    async def _ask(self, url: URL, cid: Cid, answer: "asyncio.Future[bool]") -> None:
        has = False
        try:
            async with asyncio.timeout(_LATEST_S):
                has = await self._client.has(url, cid)
        except (LayermeshError, TimeoutError) as error:
            self._failed(url, error)
        else:
            if url in self._owing:
                self._set_aside(url, f"its answer took longer than {FOUND_S:g} s", lied=False)
        finally:
            self._owing.discard(url)
            if not answer.done():
                answer.set_result(has)

    def _penalty(self, url: URL) -> Penalty | None:
        return self._penalties.of(url, asyncio.get_running_loop().time(), member=True)

    def _may_be_asked(self, url: URL, *, late: bool) -> bool:
        penalty = self._penalty(url)
        return penalty is None or (late and not penalty.lied)

    def _reason(self, url: URL) -> str | None:
        penalty = self._penalty(url)
        return None if penalty is None else penalty.reason

    def _too_slow(self, urls: Iterable[URL]) -> None:
        for url in urls:
            self._set_aside(url, "it has a file, and gives it too slowly", lied=False)

    def _failed(self, url: URL, error: LayermeshError | TimeoutError) -> None:
        self._set_aside(url, str(error) or "no answer in time", lied=isinstance(error, MismatchError))

    def _set_aside(self, url: URL, why: str, *, lied: bool) -> None:
        log.warning("gateway set aside", url=str(url), why=why)
        give = self._penalties.lied if lied else self._penalties.failed
        give(url, why, asyncio.get_running_loop().time())

    def _faults(self) -> Faults:
        def received(source: Source, size_bytes: int) -> None:
            self._received[source.url] += size_bytes

        return Faults(
            failed=lambda source, reason: self._set_aside(source.url, reason, lied=False),
            lied=lambda source, reason: self._set_aside(source.url, reason, lied=True),
            lacks=lambda source: None,
            received=received,
        )


def _source(url: URL, digest: Digest, asked: set[URL]) -> Source:
    """A gateway to fetch from, which is noted in `asked` once it was."""

    def headers(_target: str) -> Mapping[str, str]:
        asked.add(url)
        return AT_HAND

    return Source(str(url), url, headers, digest, by_block=True)


class GatewaySource:
    """`facade.ipfs.Ipfs` on gateways."""

    def __init__(self, store: Store, cluster: Cluster, gateways: Gateways) -> None:
        self._mappings = Mappings(store, cluster)
        self._store = store
        self._gateways = gateways

    async def offers(self, wanted: Wanted) -> Sequence[Offer]:
        """Implements `Ipfs.offers`: the mapping that is believed most. Who has it is asked when it is its turn.

        Where upstream fails, those are asked as well that were set aside.
        """
        for one in await self._mappings.of(wanted):
            file = NetworkFile(one.cid, one.size, here=False, network=NetworkName.GATEWAYS, awaited=one.believed)
            return tuple(Offer(SourceName.IPFS, (), one.believed, file, late) for late in (False, True))
        return ()

    async def fetch(self, wanted: Wanted, file: NetworkFile, sink: Sink, *, late: bool = False) -> None:
        """Implements `Ipfs.fetch`; gives up by itself, within a quarter of a second, where no gateway has it."""
        await self._gateways.fetch(file, wanted.digest, sink, late=late)

    async def small(self, repository: Repository, digest: Digest, *, late: bool) -> bytes | None:
        """Implements `Ipfs.small`."""
        cid = cid_of_small(digest)
        if cid is None or not await self._mappings.may_ask(repository, digest):
            return None
        if not (late or self._mappings.named(digest)):
            return None
        return await self._gateways.block(cid, within_s=FIRST_S, late=late)

    async def obtainable(self, repository: Repository, digest: Digest, *, late: bool) -> bool:
        """Implements `Ipfs.obtainable`."""
        link = await self._store.repositories.link(repository, digest)
        for offer in await self.offers(Wanted(repository, digest, link.size if link else None)):
            if offer.late is late and offer.file is not None:
                return bool(await self._gateways.having(offer.file.cid, late=late))
        return False


@asynccontextmanager
async def open_gateways(urls: Sequence[URL], *, timings: Timings = _TIMINGS) -> AsyncIterator[Gateways]:
    """Connections to gateways, and what is asked of them beside the pulls."""
    proxies = Proxies.from_environment()
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timings.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session,
        Background() as background,
    ):
        client = GatewayClient(session, answer_s=timings.stall_s, proxy=proxies.choose)
        yield Gateways(urls, client, background, timings)
