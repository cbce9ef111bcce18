"""Applications served on sockets that are bound already, and how they stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from facade.cli.sockets import BACKLOG, Listener
from facade.metrics import Metrics

GRACE_S: Final = 9.0
"""All is over within 10 s: one is left for closing the parts."""
_CUT_S: Final = 0.05


@asynccontextmanager
async def serving(
    apps: Mapping[str, web.Application], listeners: Mapping[str, Listener], cut: asyncio.Event, grace_s: float = GRACE_S
) -> AsyncIterator[None]:
    """Serve each application on the listener of its name; on exit accept nothing more, and let answers finish.

    What is not finished after `grace_s`, or once `cut` is set, is cut.
    """
    async with AsyncExitStack() as stack:
        runners = []
        for name, app in apps.items():
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CUT_S)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.SockSite(runner, listeners[name].socket, backlog=BACKLOG).start()
            runners.append(runner)
        try:
            yield
        finally:
            await _drain(runners, cut, grace_s)


async def _drain(runners: list[web.AppRunner], cut: asyncio.Event, grace_s: float) -> None:
    for runner in runners:
        for site in runner.sites:
            await site.stop()
    await asyncio.sleep(0)  # connections that were accepted just now begin with their requests
    servers = [runner.server for runner in runners if runner.server is not None]
    for server in servers:
        server.pre_shutdown()
    for runner in runners:
        await runner.shutdown()
    # aiohttp waits twice for as long as it is told: for the handler, and then for the connection
    finishing = asyncio.gather(*(server.shutdown(grace_s / 2) for server in servers))
    cutting = asyncio.ensure_future(cut.wait())
    await asyncio.wait((finishing, cutting), return_when=asyncio.FIRST_COMPLETED)
    for waiting in (finishing, cutting):
        waiting.cancel()
    await asyncio.gather(finishing, cutting, return_exceptions=True)


def counted(listener: str, metrics: Metrics) -> Middleware:
    """A middleware that counts what a listener answers."""

    @web.middleware
    async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
        started, status = time.perf_counter(), 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            metrics.server_request(listener, request.method, status, time.perf_counter() - started)

    return counting
