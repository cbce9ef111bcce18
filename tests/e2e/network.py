"""A network of our own: hosts as network namespaces on one bridge, which lies in a namespace too.

Nothing of the machine's own network is touched: no interface, route or rule is made outside the namespaces, and each
host has a loopback of its own, so every node can use the default ports.
"""

import contextlib
import ctypes
import http.client
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.e2e.process import Process, clean_environment, wait_until

_PREFIX: Final = "layermesh-e2e"
_CLONE_NEWNET: Final = 0x40000000
_SUBNET: Final = "10.213.7"
_NAMESPACES: Final = Path("/run/netns")
_networks = itertools.count()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> object:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass
class Host:
    """One machine of the network: a namespace with loopback and `eth0`, and a folder for what runs there."""

    name: str
    namespace: str
    address: str
    folder: Path
    on_start: Callable[[Process], None] = field(repr=False)

    def start(self, argv: Sequence[str], *, name: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program here; the network ends it at the latest. Its mounts are private and go with it."""
        process = Process.start(self._entering(argv), name=f"{self.name}-{name}", environment=self._with(environment))
        self.on_start(process)
        return process

    def run(self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, within_s: float = 90) -> bytes:
        """Run a command here to its end and return what it printed.

        Raises:
            AssertionError: with all it said, when its exit status is not 0.
        """
        done = self.attempt(argv, environment=environment, within_s=within_s)
        said = (done.stdout + done.stderr).decode(errors="replace")[-6000:]
        assert done.returncode == 0, f"on {self.name}: {' '.join(argv)} ended with {done.returncode}:\n{said}"
        return done.stdout

    def attempt(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, within_s: float = 90
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command here to its end, whatever its exit status."""
        return subprocess.run(
            self._entering(argv), env=self._with(environment), capture_output=True, timeout=within_s, check=False
        )

    def request(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send one HTTP request from this host."""
        parts = urlsplit(url)
        connection = self.connect(parts.hostname or "", parts.port or 80)
        with contextlib.closing(connection):
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target or "/", body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def answers(self, url: str) -> bool:
        """Whether an HTTP server here says 200 to a GET."""
        return self.status(url) == 200

    def status(self, url: str) -> int | None:
        """What an HTTP server here says to a GET; None where it does not answer."""
        try:
            return self.request(url).status
        except (OSError, http.client.HTTPException):
            return None

    def shape(self, megabits: int) -> None:
        """Let this host send no faster than this."""
        rate = ["rate", f"{megabits}mbit", "burst", "128kb", "latency", "100ms"]
        _command("ip", "netns", "exec", self.namespace, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *rate)

    def received(self) -> int:
        """Bytes that came in over `eth0` so far, as the kernel counts them."""
        said = _command("ip", "-n", self.namespace, "-s", "-j", "link", "show", "eth0")
        return int(json.loads(said)[0]["stats64"]["rx"]["bytes"])

    def cut_off(self) -> None:
        """Take the cable out: nothing comes or goes any more, and nobody is told."""
        _command("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def reconnect(self) -> None:
        """Put the cable back in."""
        _command("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def connect(self, address: str, port: int) -> http.client.HTTPConnection:
        """A connection from this host."""
        connection = http.client.HTTPConnection(address, port, timeout=60)
        with inside(self.namespace):
            connection.connect()
        return connection

    def _entering(self, argv: Sequence[str]) -> list[str]:
        enter = ["nsenter", f"--net={_NAMESPACES / self.namespace}", "unshare", "--mount", "--"]
        return [*enter, "setpriv", "--pdeathsig", "KILL", "--", *argv]

    def _with(self, environment: Mapping[str, str] | None) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        return clean_environment(home) | dict(environment or {})


class Network:
    """A bridge and the hosts on it; made by `open_network`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.processes: list[Process] = []
        self._name = name
        self._folder = folder
        self._hosts: list[Host] = []

    @property
    def switch(self) -> str:
        """The namespace that holds the bridge."""
        return f"{self._name}-switch"

    def host(self, name: str) -> Host:
        """A new machine on the bridge."""
        namespace = f"{self._name}-{name}"
        address = f"{_SUBNET}.{len(self._hosts) + 10}"
        port = f"port{len(self._hosts)}"
        host = Host(name, namespace, address, self._folder / name, self.processes.append)
        self._hosts.append(host)
        _command("ip", "netns", "add", namespace)
        peer = ["peer", "name", "eth0", "netns", namespace]
        _command("ip", "-n", self.switch, "link", "add", port, "type", "veth", *peer)
        _command("ip", "-n", self.switch, "link", "set", port, "master", "bridge", "up")
        _command("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            _command("ip", "-n", namespace, "link", "set", interface, "up")
        host.folder.mkdir(parents=True, exist_ok=True)
        return host

    def lay_switch(self) -> None:
        """Make the bridge."""
        _command("ip", "netns", "add", self.switch)
        _command("ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _command("ip", "-n", self.switch, "link", "set", "bridge", "up")

    def close(self) -> None:
        """End what still runs, and remove the namespaces with all that is in them."""
        for process in reversed(self.processes):
            process.end()
        for namespace in [*(host.namespace for host in self._hosts), self.switch]:
            _remove(namespace)


@contextlib.contextmanager
def open_network(folder: Path) -> Iterator[Network]:
    """A network that is gone afterwards, whatever happens inside; what a killed run left is removed first."""
    _remove_leftovers()
    network = Network(f"{_PREFIX}-{os.getpid()}-{next(_networks)}", folder)
    try:
        network.lay_switch()
        yield network
    finally:
        network.close()


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in another network namespace: sockets made here belong to it for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as home, (_NAMESPACES / namespace).open("rb") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), _CLONE_NEWNET) == 0, "cannot return to the machine's own network namespace"


def _remove_leftovers() -> None:
    for namespace in sorted(path.name for path in _NAMESPACES.glob(f"{_PREFIX}-*")):
        owner = int(namespace.removeprefix(f"{_PREFIX}-").partition("-")[0])
        if not Path(f"/proc/{owner}").exists():
            _remove(namespace)


def _remove(namespace: str) -> None:
    """Delete a namespace; what still runs in it is killed, as it is out of everybody's reach otherwise."""
    if not (_NAMESPACES / namespace).exists():
        return
    for pid in _inhabitants(namespace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _inhabitants(namespace), f"the processes in {namespace} are gone", within_s=5)
    _command("ip", "netns", "delete", namespace)


def _inhabitants(namespace: str) -> list[int]:
    return [int(line) for line in _command("ip", "netns", "pids", namespace).split()]


def _command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
    return done.stdout
