"""Numbers as Prometheus families and text; the only importer of prometheus_client."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

Buckets = Sequence[tuple[str, float]]


def counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A counter with one label."""
    return counters(name, text, (label,), [((key,), value) for key, value in values.items()])


def counters(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """A counter with several labels; `_total` is added to its name."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A gauge with one label."""
    return gauges_of(name, text, (label,), [((key,), value) for key, value in values.items()])


def gauges_of(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """A gauge with several labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def histogram(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], tuple[Buckets, float]]
) -> Metric:
    """A histogram from cumulative buckets and their sum."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, (buckets, total) in values.items():
        family.add_metric(key, buckets, total)
    return family


class _Collected(Collector):
    """Families that were collected already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@cache
def _process() -> ProcessCollector:
    return ProcessCollector(registry=None)


def expose(families: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """`families` and the process's own numbers (memory, CPU, open files), and the content type of the text.

    Reads files of /proc: for a thread.
    """
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    registry.register(_process())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
