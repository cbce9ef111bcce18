"""Where a registry may send us: to which token realm, and along which redirects. Pure decisions."""

from typing import Final

from yarl import URL

from facade.upstream.addresses import is_local_host, same_owner
from facade.upstream.retry import FutileError
from node.errors import DeniedError

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 5


def check_realm(endpoint: URL, realm: str) -> URL:
    """The token service a challenge of `endpoint` names, when it belongs to that upstream.

    It must be https, unless the endpoint is plain http, on the same host or below the same registrable domain.

    Raises:
        DeniedError: when it does not belong; nothing is asked of it then.
    """
    try:
        url = URL(realm)
        host, _ = url.host, url.port
    except ValueError:
        host = None
    if host is None or url.user is not None or url.password is not None:
        raise DeniedError(f"{endpoint.host} names the token realm {realm[:120]!r}, which is no usable URL")
    if url.scheme != "https" and not (url.scheme == "http" and endpoint.scheme == "http"):
        raise DeniedError(f"{endpoint.host} names the token realm {_shown(url)}, refused: only https is allowed")
    if not same_owner(endpoint.host or "", host):
        raise DeniedError(f"{endpoint.host} names the token realm {_shown(url)}, refused: it belongs to another domain")
    return url


def next_hop(url: URL, location: str | None, endpoint: URL, *, endpoint_is_local: bool) -> URL:
    """The URL a redirect from `url` leads to; its path and query stay exactly as sent, for they are often signed.

    Raises:
        FutileError: when it is missing or malformed, leaves https, holds credentials, or names a private address
            while the endpoint itself is public.
    """
    try:
        target = url.join(URL(location or "", encoded=True)).with_fragment(None)
        host, _ = target.host, target.port
    except ValueError:
        host = None
    if not location or host is None or target.scheme not in ("http", "https"):
        raise FutileError(f"{endpoint.host} redirects to no usable URL")
    if target.user is not None or target.password is not None:
        raise FutileError(f"{endpoint.host} redirects to a URL with credentials, refused")
    if url.scheme == "https" and target.scheme != "https":
        raise FutileError(f"{endpoint.host} redirects from https to {_shown(target)}, refused")
    if is_local_host(host) and not endpoint_is_local:
        raise FutileError(f"{endpoint.host} redirects to the private address {_shown(target)}, refused")
    return target


def _shown(url: URL) -> str:
    """Without its query, which may be a signature."""
    return f"{url.scheme}://{url.host}:{url.port}"
