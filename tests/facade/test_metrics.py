"""What a scrape shows."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from facade.metrics import SOURCES, Metrics
from facade.upstream.breaker import BreakerState
from facade.upstream.config import Endpoint
from facade.upstream.quota import Quota


async def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """A scrape as {(name, labels): value}, read back by Prometheus' own parser."""
    text = (await metrics.expose())[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", ["layermesh_served_bytes_total", "layermesh_fetched_bytes_total"])
async def test_every_source_is_there_with_zero_before_anything_happened(name: str) -> None:
    seen = await samples(Metrics())
    assert {source: seen[name, (("source", source),)] for source in SOURCES} == dict.fromkeys(SOURCES, 0)


async def test_bytes_add_up_under_their_source() -> None:
    metrics = Metrics()
    metrics.served("peer", 5)
    metrics.served("peer", 6)
    metrics.fetched("upstream", 7)
    seen = await samples(metrics)
    assert seen["layermesh_served_bytes_total", (("source", "peer"),)] == 11
    assert seen["layermesh_fetched_bytes_total", (("source", "upstream"),)] == 7


async def test_an_upstream_request_counts_as_a_client_request_too() -> None:
    metrics = Metrics()
    metrics.upstream_request("docker.io", "200", 0.2)
    seen = await samples(metrics)
    assert seen["layermesh_upstream_requests_total", (("code", "200"), ("namespace", "docker.io"))] == 1
    assert seen["http_client_requests_total", (("code", "200"), ("target", "upstream"))] == 1
    assert seen["http_client_requests_duration_seconds_count", (("target", "upstream"),)] == 1


async def test_durations_fall_into_cumulative_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.02, 99.0):
        metrics.server_request("facade", "GET", 200, seconds)
    seen = await samples(metrics)
    labels = (("listener", "facade"), ("method", "GET"))
    name = "http_server_requests_duration_seconds"
    buckets = [
        seen[f"{name}_bucket", tuple(sorted((*labels, ("le", le))))] for le in ("0.001", "0.025", "60.0", "+Inf")
    ]
    assert buckets == [1, 2, 2, 3]
    assert seen[f"{name}_sum", labels] == pytest.approx(99.021)


async def test_a_method_nobody_knows_makes_no_new_series() -> None:
    metrics = Metrics()
    metrics.server_request("facade", "BREW", 405, 0.1)
    metrics.server_request("facade", "STEEP", 405, 0.1)
    seen = await samples(metrics)
    assert seen["http_server_requests_total", (("code", "405"), ("listener", "facade"), ("method", "other"))] == 2


async def test_gauges_are_read_when_scraped() -> None:
    metrics = Metrics()
    held = [10]
    metrics.watch_store(lambda: held[0], lambda: 1)
    metrics.watch_peers(lambda: {"alive": 2}, lambda: {"out": 8}, lambda: 1)
    held[0] = 20
    seen = await samples(metrics)
    assert seen["layermesh_store_bytes", ()] == 20
    assert seen["layermesh_peers", (("state", "alive"),)] == 2
    assert seen["layermesh_peers", (("state", "gone"),)] == 0
    assert seen["layermesh_peers_set_aside", ()] == 1
    assert seen["layermesh_peer_bytes_total", (("direction", "out"),)] == 8
    assert seen["layermesh_peer_bytes_total", (("direction", "in"),)] == 0


async def test_an_ipfs_daemon_is_counted_only_where_there_is_one() -> None:
    metrics = Metrics()
    assert ("layermesh_ipfs_up", ()) not in await samples(metrics)
    metrics.watch_ipfs(lambda: (False, 3))
    seen = await samples(metrics)
    assert (seen["layermesh_ipfs_up", ()], seen["layermesh_ipfs_blobs", ()]) == (0, 3)


async def test_the_state_of_each_breaker_is_one_of_three() -> None:
    metrics = Metrics()
    endpoint = Endpoint("docker.io", URL("https://registry.test"))
    metrics.watch_upstreams(lambda: {endpoint: BreakerState.HALF_OPEN}, dict)
    seen = await samples(metrics)
    shown = {
        dict(labels)["state"]: value for (name, labels), value in seen.items() if name == "layermesh_upstream_breaker"
    }
    assert shown == {"closed": 0, "open": 0, "half-open": 1}


async def test_what_an_upstream_still_allows_is_shown_where_it_says_so() -> None:
    metrics = Metrics()
    endpoint = Endpoint("docker.io", URL("https://registry.test"))
    metrics.watch_upstreams(dict, lambda: {(endpoint, True): Quota(100, 76), (endpoint, False): Quota(None, 180)})
    seen = await samples(metrics)
    labels = (("endpoint", "https://registry.test"), ("login", "no"), ("namespace", "docker.io"))
    assert seen["layermesh_upstream_ratelimit_limit", labels] == 100
    assert seen["layermesh_upstream_ratelimit_remaining", labels] == 76
    assert sum(name == "layermesh_upstream_ratelimit_limit" for name, _ in seen) == 1


async def test_the_process_itself_is_measured() -> None:
    assert (await samples(Metrics()))["process_resident_memory_bytes", ()] > 1_000_000


async def test_openmetrics_is_answered_to_those_who_ask() -> None:
    _, content_type = await Metrics().expose("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
