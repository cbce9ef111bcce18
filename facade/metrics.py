"""What this process counts: plain numbers while it works, Prometheus families only when somebody scrapes them.

Counting is one dictionary update without a lock; all of it happens on the event loop's thread.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeVar

from facade.upstream.breaker import BreakerState
from facade.upstream.config import Endpoint
from facade.upstream.quota import Quota

if TYPE_CHECKING:
    from prometheus_client import Metric

SOURCES: Final = ("local", "flight", "peer", "ipfs", "upstream")
DIRECTIONS: Final = ("in", "out")
PEER_STATES: Final = ("candidate", "alive", "suspect", "gone")
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CLIENT_GONE: Final = 499
"""The status counted when a client left before its answer; nobody receives it."""
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})


_Key = TypeVar("_Key")


class _Durations:
    """One histogram per label values: how many fell into each bucket, and their sum in seconds."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: each holds all that are smaller, `+Inf` last."""
        bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
        running, buckets = 0, []
        for bound, count in zip(bounds, self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


class Metrics:
    """The counters of one node; every method is cheap enough for the path of a manifest GET."""

    def __init__(self) -> None:
        self.served_bytes = dict.fromkeys(SOURCES, 0)
        self.fetched_bytes = dict.fromkeys(SOURCES, 0)
        self._upstream: dict[tuple[str, str], int] = {}
        self._server: dict[tuple[str, str, str], int] = {}
        self._server_s: dict[tuple[str, str], _Durations] = {}
        self._client: dict[tuple[str, str], int] = {}
        self._client_s: dict[str, _Durations] = {}
        self._store_bytes: Callable[[], int] | None = None
        self._store_blobs: Callable[[], int] | None = None
        self._peers: Callable[[], Mapping[str, int]] | None = None
        self._peer_bytes: Callable[[], Mapping[str, int]] | None = None
        self._set_aside: Callable[[], int] | None = None
        self._breakers: Callable[[], Mapping[Endpoint, BreakerState]] | None = None
        self._quotas: Callable[[], Mapping[tuple[Endpoint, bool], Quota]] | None = None
        self._ipfs: Callable[[], tuple[bool, int]] | None = None

    def served(self, source: str, size: int) -> None:
        """`size` bytes of manifests or blobs went to a runtime; `source` is one of SOURCES."""
        self.served_bytes[source] += size

    def fetched(self, source: str, size: int) -> None:
        """`size` bytes came in to be kept; `source` is one of SOURCES."""
        self.fetched_bytes[source] += size

    def upstream_request(self, namespace: str, code: str, seconds: float) -> None:
        """One request to an upstream ended; `code` is the status, or a word for the failure (`timeout`, `refused`)."""
        key = (namespace, code)
        self._upstream[key] = self._upstream.get(key, 0) + 1
        client = ("upstream", code)
        self._client[client] = self._client.get(client, 0) + 1
        _observe(self._client_s, "upstream", seconds)

    def server_request(self, listener: str, method: str, code: int, seconds: float) -> None:
        """One request to this node ended; unknown methods are counted as `other`."""
        method = method if method in _METHODS else "other"
        key = (listener, method, str(code))
        self._server[key] = self._server.get(key, 0) + 1
        _observe(self._server_s, (listener, method), seconds)

    def watch_store(self, size_bytes: Callable[[], int], blobs: Callable[[], int]) -> None:
        """Read these when scraped: how many bytes and blobs the store holds."""
        self._store_bytes = size_bytes
        self._store_blobs = blobs

    def watch_peers(
        self,
        by_state: Callable[[], Mapping[str, int]],
        size_bytes: Callable[[], Mapping[str, int]],
        set_aside: Callable[[], int] | None = None,
    ) -> None:
        """Read these when scraped: how many peers are in each of PEER_STATES; how many bytes of blobs came from peers
        (`in`) and went to them (`out`); how many peers are not asked at present, for they failed or lied.
        """
        self._peers = by_state
        self._peer_bytes = size_bytes
        self._set_aside = set_aside

    def watch_upstreams(
        self,
        breakers: Callable[[], Mapping[Endpoint, BreakerState]],
        quotas: Callable[[], Mapping[tuple[Endpoint, bool], Quota]],
    ) -> None:
        """Read these when scraped: how the breaker of each endpoint stands; what each said that it allows to anonymous
        requests (True) and to those with a login.
        """
        self._breakers = breakers
        self._quotas = quotas

    def watch_ipfs(self, numbers: Callable[[], tuple[bool, int]]) -> None:
        """Read these when scraped: whether the IPFS daemon can be used, and how many blobs are offered by it."""
        self._ipfs = numbers

    def collect(self) -> "Iterable[Metric]":
        """The families for one scrape, under the names of the design's section 10 (a prometheus_client collector)."""
        from facade import exposition

        yield exposition.counter("layermesh_served_bytes", "Bytes sent to runtimes.", "source", self.served_bytes)
        yield exposition.counter("layermesh_fetched_bytes", "Bytes fetched.", "source", self.fetched_bytes)
        yield exposition.counter(
            "layermesh_peer_bytes",
            "Bytes of blobs exchanged with peers.",
            "direction",
            _all(DIRECTIONS, self._peer_bytes),
        )
        yield exposition.counters(
            "layermesh_upstream_requests", "Requests to upstreams.", ("namespace", "code"), self._upstream.items()
        )
        yield from self._collect_endpoints()
        yield exposition.gauge("layermesh_store_bytes", "Bytes of blobs on disk.", _now(self._store_bytes))
        yield exposition.gauge("layermesh_store_blobs", "Blobs on disk.", _now(self._store_blobs))
        yield exposition.gauges("layermesh_peers", "Peers by state.", "state", _all(PEER_STATES, self._peers))
        yield exposition.gauge("layermesh_peers_set_aside", "Peers that are not asked now.", _now(self._set_aside))
        yield from self._collect_ipfs()
        yield exposition.counters(
            "http_server_requests", "Requests answered.", ("listener", "method", "code"), self._server.items()
        )
        yield exposition.counters("http_client_requests", "Requests made.", ("target", "code"), self._client.items())
        yield exposition.histogram(
            "http_server_requests_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            ("listener", "method"),
            {key: (one.cumulative(), one.total_s) for key, one in self._server_s.items()},
        )
        yield exposition.histogram(
            "http_client_requests_duration_seconds",
            "Time from a request to the headers of its answer.",
            ("target",),
            {(key,): (one.cumulative(), one.total_s) for key, one in self._client_s.items()},
        )

    def _collect_ipfs(self) -> "Iterable[Metric]":
        from facade import exposition

        if self._ipfs is None:
            return
        usable, offered = self._ipfs()
        yield exposition.gauge("layermesh_ipfs_up", "1 while the IPFS daemon can be used.", float(usable))
        yield exposition.gauge("layermesh_ipfs_blobs", "Blobs that the IPFS daemon offers for this node.", offered)

    def _collect_endpoints(self) -> "Iterable[Metric]":
        from facade import exposition

        yield exposition.gauges_of(
            "layermesh_upstream_breaker",
            "1 for the state that an endpoint's breaker is in.",
            ("namespace", "endpoint", "state"),
            [
                ((endpoint.namespace, str(endpoint.url), each), float(each is state))
                for endpoint, state in (self._breakers() if self._breakers is not None else {}).items()
                for each in BreakerState
            ],
        )
        quotas = self._quotas() if self._quotas is not None else {}
        for name, text in (("limit", "in a while"), ("remaining", "now")):
            yield exposition.gauges_of(
                f"layermesh_upstream_ratelimit_{name}",
                f"Requests that an endpoint says it allows {text}.",
                ("namespace", "endpoint", "login"),
                [
                    ((endpoint.namespace, str(endpoint.url), "no" if anonymous else "yes"), float(count))
                    for (endpoint, anonymous), quota in quotas.items()
                    if (count := getattr(quota, name)) is not None
                ],
            )

    async def expose(self, accept: str = "") -> tuple[bytes, str]:
        """One scrape: the text and its content type, in the format that the `Accept` header asks for."""
        exposition = await asyncio.to_thread(_exposition)
        families = list(self.collect())
        return await asyncio.to_thread(exposition.expose, families, accept)


def _exposition() -> ModuleType:
    from facade import exposition  # loaded by the first scrape, not at start

    return exposition


def _observe(durations: dict[_Key, _Durations], key: _Key, seconds: float) -> None:
    one = durations.get(key)
    if one is None:
        one = durations[key] = _Durations()
    one.observe(seconds)


def _now(read: Callable[[], int] | None) -> int:
    return read() if read is not None else 0


def _all(names: Sequence[str], read: Callable[[], Mapping[str, int]] | None) -> dict[str, int]:
    """What is read now, with 0 for those of `names` that are not in it."""
    return dict.fromkeys(names, 0) | dict(read() if read is not None else {})
