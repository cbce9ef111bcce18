"""A relay that makes a link longer: every byte is passed on a constant time after it came, in both directions.

The kernel's own way (`tc netem`) is not everywhere. A connection is accepted at once, so its first bytes are held for
one more round trip: what opening it would have cost. At most `WINDOW` bytes are on the way in one direction.
"""

import argparse
import asyncio
import selectors
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from weakref import WeakSet

WINDOW: Final = 4 << 20


class _Direction:
    """The bytes on the way from one transport to the other."""

    def __init__(self, delay_s: float, not_before: float) -> None:
        self._delay_s = delay_s
        self._not_before = not_before
        self._loop = asyncio.get_running_loop()
        self._on_the_way: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._paused = False
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None

    def put(self, data: bytes | None) -> None:
        """Bytes have come; None stands for their end."""
        due = max(self._loop.time() + self._delay_s, self._not_before)
        self._on_the_way.append((due, data))
        self._bytes += len(data or b"")
        if self._bytes > WINDOW and self.source and not self._paused:
            self._paused = True
            self.source.pause_reading()
        self._schedule()

    def block(self, blocked: bool) -> None:
        """The target takes no more for now, or takes bytes again."""
        self._blocked = blocked
        self._schedule()

    def start(self, target: asyncio.Transport) -> None:
        """The target is connected."""
        self.target = target
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._on_the_way and self.target and not self._blocked:
            self._timer = self._loop.call_at(self._on_the_way[0][0], self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._on_the_way and self._on_the_way[0][0] <= now and self.target and not self._blocked:
            _, data = self._on_the_way.popleft()
            if data is None:
                self.target.close()
                return
            self._bytes -= len(data)
            self.target.write(data)
        if self._paused and self._bytes < WINDOW // 2 and self.source and not self.source.is_closing():
            self._paused = False
            self.source.resume_reading()
        self._schedule()


class _End(asyncio.Protocol):
    """One connection of a relayed pair."""

    def __init__(self, out: _Direction, back: _Direction, connected: Callable[[], object] = lambda: None) -> None:
        self._out, self._back, self._connected = out, back, connected
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._out.source = transport
        self._back.start(transport)
        self._connected()

    def data_received(self, data: bytes) -> None:
        self._out.put(data)

    def eof_received(self) -> bool:
        return True

    def pause_writing(self) -> None:
        self._back.block(True)

    def resume_writing(self) -> None:
        self._back.block(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._out.put(None)
        self.gone.set()

    async def abort(self) -> None:
        """Cut the connection."""
        if self.transport:
            self.transport.abort()
            await self.gone.wait()


@asynccontextmanager
async def relay(host: str, port: int, to_host: str, to_port: int, delay_s: float) -> AsyncIterator[asyncio.Server]:
    """Listen on `host:port` and pass connections on to `to_host:to_port`, each way `delay_s` later."""
    loop = asyncio.get_running_loop()
    ends: WeakSet[_End] = WeakSet()

    def end(*arguments: Any) -> _End:
        made = _End(*arguments)
        ends.add(made)
        return made

    async def dial(back: _Direction, there: _Direction) -> None:
        try:
            await loop.create_connection(lambda: end(back, there), to_host, to_port)
        except OSError:
            back.put(None)

    async with asyncio.TaskGroup() as dialling:

        def accepted() -> _End:
            there, back = _Direction(delay_s, loop.time() + 3 * delay_s), _Direction(delay_s, 0)
            return end(there, back, lambda: dialling.create_task(dial(back, there)))

        async with await loop.create_server(accepted, host, port) as server:
            yield server
    for one in list(ends):
        await one.abort()


async def _serve(options: argparse.Namespace) -> None:
    (host, port), (to_host, to_port) = options.listen, options.to
    async with relay(host, port, to_host, to_port, options.delay_ms / 1000) as server:
        await server.serve_forever()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Relay until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=_address, required=True)
    parser.add_argument("--to", type=_address, required=True)
    parser.add_argument("--delay-ms", type=float, required=True)
    # select() waits to the microsecond; epoll, as asyncio uses it, rounds up to the next millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
