"""Applications served on sockets that are bound already, and how they stop."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from facade.cli.sockets import BACKLOG, Listener
from facade.metrics import CLIENT_GONE, Metrics

GRACE_S: Final = 9.0
"""All is over within 10 s: one is left for closing the parts."""
_CUT_S: Final = 0.05
_FAREWELL_S: Final = 0.5
"""How long clients may take to confirm the end of a TLS connection; asyncio would wait for half a minute."""
_HANDSHAKE_S: Final = 5.0
"""How long a TLS handshake may take: one under way costs fifty times the memory of a plain connection (measured)."""
_LOOK_S: Final = 0.01
_SET_UP_ROUNDS: Final = 5
"""How often the event loop goes round while a connection that was accepted becomes a request."""
_Runner = web.AppRunner | web.ServerRunner


@asynccontextmanager
async def serving(
    apps: Mapping[str, web.Application | web.Server],
    listeners: Mapping[str, Listener],
    cut: asyncio.Event,
    grace_s: float = GRACE_S,
    tls: Mapping[str, ssl.SSLContext] | None = None,
    handshake_s: float = _HANDSHAKE_S,
) -> AsyncIterator[None]:
    """Serve each of `apps` on the listener of its name; on exit accept nothing more, and let answers finish.

    Listeners that `tls` names speak TLS, with those who shake hands within `handshake_s`. What is not finished after
    `grace_s`, or once `cut` is set, is cut.
    """
    async with AsyncExitStack() as stack:
        runners: list[_Runner] = []
        sockets = [listeners[name].socket for name in apps]
        for name, app in apps.items():
            runner = _runner(app)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            context = tls.get(name) if tls else None
            await _Site(runner, listeners[name], context, handshake_s).start()
            runners.append(runner)
        try:
            yield
        finally:
            await _refuse(runners, sockets)
            await _drain(runners, cut, grace_s)


class _Site(web.BaseSite):
    """A listener that an application is served on."""

    def __init__(self, runner: _Runner, listener: Listener, context: ssl.SSLContext | None, handshake_s: float) -> None:
        super().__init__(runner, ssl_context=context, backlog=BACKLOG)
        self._listener = listener
        self._handshake_s = handshake_s if context else None

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._listener.address)

    async def start(self) -> None:
        """As `web.SockSite`, which lets handshakes take a minute."""
        await super().start()
        assert self._runner.server is not None, "a runner is set up before it has sites"
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server,
            sock=self._listener.socket,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_s,
        )


def _runner(app: web.Application | web.Server) -> _Runner:
    if isinstance(app, web.Server):
        return web.ServerRunner(app, shutdown_timeout=_CUT_S)
    return web.AppRunner(app, access_log=None, shutdown_timeout=_CUT_S)


async def _refuse(runners: list[_Runner], sockets: Sequence[socket.socket]) -> None:
    """Accept nothing more; connections that were accepted just now are set up first, as asyncio would lose them."""
    loop = asyncio.get_running_loop()
    for listening in sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(_SET_UP_ROUNDS):
        await asyncio.sleep(0)
    for runner in runners:
        for site in runner.sites:
            await site.stop()


async def _drain(runners: list[_Runner], cut: asyncio.Event, grace_s: float) -> None:
    servers = [runner.server for runner in runners if runner.server is not None]
    transports = [handler.transport for server in servers for handler in server.connections]
    encrypted = [each for each in transports if each is not None and each.get_extra_info("sslcontext") is not None]
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
    await _bid_farewell(encrypted, 0.0 if cut.is_set() else _FAREWELL_S)


async def _bid_farewell(transports: Sequence[asyncio.Transport], limit_s: float) -> None:
    """Wait until these are closed, as nobody says when they are; then cut those that are not."""
    for _ in range(round(limit_s / _LOOK_S)):
        if not any(_is_open(each) for each in transports):
            break
        await asyncio.sleep(_LOOK_S)
    for each in transports:
        each.abort()


def _is_open(transport: asyncio.Transport) -> bool:
    connection = transport.get_extra_info("socket")  # none once it is closed for good
    return connection is not None and bool(connection.fileno() != -1)


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
        except ConnectionError:
            status = CLIENT_GONE
            return web.Response(status=CLIENT_GONE)
        finally:
            metrics.server_request(listener, request.method, status, time.perf_counter() - started)

    return counting
