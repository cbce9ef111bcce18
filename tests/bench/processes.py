"""Processes the bench starts and ends; nothing else on the machine is touched."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.bench.rows import MeasureError

STOP_LIMIT_S = 15.0
READY_LIMIT_S = 60.0


@contextmanager
def running(
    command: Sequence[str], log: Path, *, namespace: str | None = None, extra_env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with its output in `log`, inside a network namespace if one is named; gone when the block ends.

    It also dies with the bench (parent-death signal), however the bench dies.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            within(namespace, [*_dying_with_parent(), *command]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(extra_env or {})},
        )
    try:
        yield process
    finally:
        stop(process)


def within(namespace: str | None, command: Sequence[str]) -> list[str]:
    """`command` as it is run inside a network namespace."""
    return [*(["ip", "netns", "exec", namespace] if namespace else []), *command]


def _dying_with_parent() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End `process` politely, and by force after a while."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(process: "subprocess.Popen[bytes]", port: int, path: str, log: Path) -> None:
    """Ask 127.0.0.1 for `path` every 5 ms until it answers 200.

    Raises:
        MeasureError: when the process ends first, or the limit passes.
    """
    _wait(process, lambda: answers(port, path), log)


def wait_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Look every 5 ms until somebody listens on `port` in the network namespace of `process`.

    Raises:
        MeasureError: when the process ends first, or the limit passes.
    """
    listening = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
    _wait(process, lambda: listening.search(Path(f"/proc/{process.pid}/net/tcp").read_text()) is not None, log)


def _wait(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while not ready():
        if process.poll() is not None:
            raise MeasureError(f"{process.args!r} ended with status {process.returncode}: {tail(log)}")
        if time.monotonic() > deadline:
            raise MeasureError(f"{process.args!r} was not ready within {READY_LIMIT_S:.0f} s: {tail(log)}")
        time.sleep(0.005)


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` gives 200 right now."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, for an error message."""
    return " | ".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(no output)"


def memory_kib(pid: int) -> dict[str, int]:
    """The `Vm...` and `Rss...` lines of /proc/PID/status, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(("Vm", "Rss")))
    return {field[0].rstrip(":"): int(field[1]) for field in fields}


def cpu_seconds(pid: int) -> float:
    """The time that a process and its threads have kept cores busy, in the kernel as well; to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
