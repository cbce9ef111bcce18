"""Which proxy the environment names for a URL (HTTPS_PROXY, HTTP_PROXY, NO_PROXY); the netrc file is never read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib import request as urllib_request

from yarl import URL

from facade.upstream.addresses import is_loopback_host


@dataclass(frozen=True, slots=True)
class Proxies:
    """Scheme -> proxy URL, with the proxy's own login in it, and `no` -> the hosts without."""

    named: Mapping[str, str]

    @classmethod
    def from_environment(cls) -> Self:
        """As the variables stand now."""
        return cls(urllib_request.getproxies_environment())

    def choose(self, url: URL) -> URL | None:
        """The proxy for this URL; loopback never has one, and only http and https proxies count."""
        text = self.named.get(url.scheme)
        host = url.host or ""
        if not text or is_loopback_host(host) or self._bypassed(f"{host}:{url.port}"):
            return None
        proxy = URL(text if "://" in text else f"http://{text}")
        return proxy if proxy.scheme in ("http", "https") and proxy.host else None

    def _bypassed(self, host: str) -> bool:
        bypass = urllib_request.proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in typeshed
        return bool(bypass(host, dict(self.named)))
