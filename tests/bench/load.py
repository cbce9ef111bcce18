"""Closed-loop load: N keep-alive connections, each asking again as soon as its answer is whole."""

import re
import selectors
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, closing

from tests.bench.processes import cpu_seconds
from tests.bench.rows import MeasureError, MissingToolError
from tests.bench.wire import Taking, Wire

_RAMP_S = 0.2


def bytes_per_second(
    port: int, target: str, connections: int, seconds: float, taking: Taking, ramp_s: float = _RAMP_S
) -> float:
    """Bytes of bodies that arrive in `seconds`, after a short ramp that is not counted."""
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(connections):
            wire = stack.enter_context(closing(Wire("127.0.0.1", port, taking)))
            ready.register(wire.socket, selectors.EVENT_READ, wire)
            wire.send(target)
        _spin(ready, target, ramp_s)
        started = time.perf_counter()
        count = _spin(ready, target, seconds)
        return count / (time.perf_counter() - started)


def _spin(ready: selectors.BaseSelector, target: str, seconds: float) -> int:
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key, _ in ready.select(seconds):
            wire: Wire = key.data
            if not wire.left:
                count += wire.head().length - wire.left
            else:
                count += wire.take_some()
            wire.wake_less()
            if not wire.left:
                wire.send(target)
    return count


def cpu_per_gigabyte(pid: int, port: int, target: str, connections: int, seconds: float) -> float:
    """The CPU seconds that process `pid` takes for each gigabyte (10^9 bytes) it sends to clients that discard."""
    before = cpu_seconds(pid)
    rate = bytes_per_second(port, target, connections, seconds, Taking.DISCARD, ramp_s=0.0)
    return (cpu_seconds(pid) - before) / (rate * seconds / 1e9)


def heads_per_second(port: int, target: str, connections: int, seconds: float, accept: str) -> float:
    """HEAD requests that are answered 200, over keep-alive connections; wrk would wait for their bodies.

    Raises:
        MeasureError: when an answer is another.
    """
    request = f"HEAD {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\n\r\n".encode()
    count, until = 0, time.perf_counter() + seconds
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(connections):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            ready.register(connection, selectors.EVENT_READ)
            connection.sendall(request)
        while time.perf_counter() < until:
            for key, _ in ready.select(seconds):
                answer = key.fileobj.recv(4096)  # type: ignore[union-attr]
                if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n"):
                    raise MeasureError(f"HEAD {target} was answered {answer[:200]!r}")
                count += 1
                key.fileobj.sendall(request)  # type: ignore[union-attr]
    return count / seconds


def requests_per_second(
    port: int,
    target: str,
    connections: int,
    seconds: float,
    accept: str,
    *,
    close: bool = False,
) -> float:
    """What wrk gets with one thread and keep-alive connections, or with `close` a new connection for each request.

    Raises:
        MissingToolError: without wrk.
        MeasureError: when an answer was not a success.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MissingToolError("wrk", "apt-get install wrk")
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "-H", f"Accept: {accept}"]
    if close:
        options += ["-H", "Connection: close"]
    command = [wrk, *options, f"http://127.0.0.1:{port}{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise MeasureError(f"wrk: {done.stdout[-400:]} {done.stderr[-200:]}")
    return float(found.group(1))
