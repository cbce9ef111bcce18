"""What upstreams allow us: until when they asked for patience, and how many requests are left. Pure but for the clock.

Docker Hub tells what is left with each manifest: `ratelimit-remaining: 76;w=21600` (76 more within any six hours).
"""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from facade.upstream.config import Endpoint
from node.errors import ThrottledError
from node.reference import DOCKER_HUB

_COUNT: Final = re.compile(r"\s*([0-9]{1,12})\s*(?:[;,].*)?", re.DOTALL)
_MOST_HELD: Final = 4096


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests an endpoint allows in a while, and how many of them are left; None where it does not say."""

    limit: int | None
    remaining: int | None


def read_quota(headers: Mapping[str, str]) -> Quota | None:
    """What an answer's `RateLimit-Limit` and `RateLimit-Remaining` say; None when neither is there."""
    limit, remaining = (_count(headers.get(f"RateLimit-{name}")) for name in ("Limit", "Remaining"))
    return None if limit is None and remaining is None else Quota(limit, remaining)


def counts_all(endpoint: Endpoint, headers: Mapping[str, str]) -> bool:
    """Whether a 429 speaks for every repository of an endpoint, or may speak for the one that was asked for alone.

    Docker Hub counts by login, or by address without one, and says so with its quota. Quay and GitLab count by address
    or user, Artifact Registry by project, and GHCR's limit was seen to be shared by all who pull a popular image. So
    where nothing tells, another repository is worth a question: a direct pull would ask it as well.
    """
    return endpoint.namespace == DOCKER_HUB or read_quota(headers) is not None


def _count(header: str | None) -> int | None:
    match = _COUNT.fullmatch(header or "")
    return int(match[1]) if match else None


class Quotas:
    """By endpoint, who asks and, where that may matter, for what; nobody is asked again before the time they named."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Hashable, float] = {}
        self.known: dict[tuple[Endpoint, bool], Quota] = {}
        """The latest word, for anonymous requests (True) and for those with a login."""

    def note(self, endpoint: Endpoint, anonymous: bool, headers: Mapping[str, str]) -> None:
        """Read what an answer says."""
        if (quota := read_quota(headers)) is not None:
            self.known[endpoint, anonymous] = quota

    def hold(self, whom: Hashable, wait_s: float | None) -> None:
        """They asked for patience; where they did not say for how long, it is for the caller to decide."""
        if not wait_s:
            return
        if len(self._until) >= _MOST_HELD:
            now = self._clock()
            self._until = {held: until for held, until in self._until.items() if until > now}
            if len(self._until) >= _MOST_HELD and whom not in self._until:  # clients name as many logins as they like
                del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[whom] = max(self._until.get(whom, 0.0), self._clock() + wait_s)

    def check(self, whom: Hashable, what: str) -> None:
        """Pass when they may be asked.

        Raises:
            ThrottledError: while they may not, with the seconds that are left.
        """
        left_s = self._until.get(whom, 0.0) - self._clock()
        if left_s > 0:
            raise ThrottledError(f"{what} asked for patience, and is asked again in {left_s:.0f} s", left_s)
        self._until.pop(whom, None)
