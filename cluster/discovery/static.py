"""Nodes named by the operator."""

from collections.abc import Iterable

from yarl import URL

from cluster.discovery.contracts import Sighted, Sighting
from cluster.membership import Origin


def announce(joins: Iterable[URL], sighted: Sighted) -> None:
    """Name every configured address; names of hosts are resolved whenever they are dialled."""
    for url in joins:
        sighted(Sighting(url.origin(), Origin.JOIN))
