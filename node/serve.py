"""The IPFS gateway of this node: blocks and files by CID (Trustless and Path Gateway specifications)."""

from collections.abc import Callable

from aiohttp import web

from node.catalog import Visibility
from node.store import Store

MayRead = Callable[[web.Request, Visibility], bool]
OnSent = Callable[[int, web.Request], None]


def gateway_routes(store: Store, may_read: MayRead, on_sent: OnSent | None = None) -> list[web.RouteDef]:
    """`GET|HEAD /ipfs/{cid}`; what `may_read` refuses is answered as if it were not here."""
    raise NotImplementedError
