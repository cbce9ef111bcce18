"""What every way of finding nodes tells: addresses appear, and may disappear."""

from collections.abc import Callable
from dataclasses import dataclass

from yarl import URL

from cluster.membership import Origin


@dataclass(frozen=True, slots=True)
class Sighting:
    """An address that was named, or taken back when `gone`. A candidate, not a friend."""

    url: URL
    origin: Origin
    boot: str | None = None
    gone: bool = False


Sighted = Callable[[Sighting], None]
