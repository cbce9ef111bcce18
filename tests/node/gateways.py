"""Servers on loopback for the node's wire tests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext

from aiohttp import web
from yarl import URL

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(routes: Sequence[web.RouteDef], tls: SSLContext | None = None) -> AsyncIterator[URL]:
    """Serve routes on a port of loopback."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        yield URL.build(scheme="https" if tls else "http", host=host, port=port)
    finally:
        await runner.cleanup()


def answering(handler: Handler) -> list[web.RouteDef]:
    """A gateway that answers every CID as `handler` does."""
    return [web.get("/ipfs/{cid}", handler)]
