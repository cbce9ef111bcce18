"""A link of a given rate and delay, between two network namespaces made for it.

    near namespace: client, node, cache          far namespace: relay (delay) -> upstream
         10.213.77.2  <--------- veth, tbf each way --------->  10.213.77.1

The delay is that of one direction: a round trip takes twice as long, and opening a connection takes one (see `relay`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.processes import running, wait_listening, within
from tests.bench.rows import MissingToolError

FAR: Final = "10.213.77.1"
_NEAR: Final = "10.213.77.2"
RELAY_PORT: Final = 5000


@dataclass(frozen=True, slots=True)
class Shape:
    """How fast and how long a link is; `rate` in the words of tc(8), the delay that of one direction."""

    rate: str
    delay_ms: float

    def __str__(self) -> str:
        return f"{self.rate}, {self.delay_ms:.0f} ms each way"


@dataclass(frozen=True, slots=True)
class Link:
    """The names of the two namespaces."""

    near: str
    far: str


@contextmanager
def shaped_link(rate: str) -> Iterator[Link]:
    """Make the namespaces and the shaped pair of interfaces; gone when the block ends.

    Raises:
        MissingToolError: without root, ip or tc.
    """
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        raise MissingToolError("shaped link", "run as root; apt-get install iproute2")
    link = Link(f"lmbench{os.getpid()}n", f"lmbench{os.getpid()}f")
    try:
        for name in (link.near, link.far):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", link.near, "link", "add", "far", "type", "veth", "peer", "name", "near", "netns", link.far)
        for name, device, address in ((link.near, "far", _NEAR), (link.far, "near", FAR)):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", device)
            _ip("-n", name, "link", "set", device, "up")
            bucket = ["tbf", "rate", rate, "burst", "128kb", "latency", "20ms"]
            _call(within(name, ["tc", "qdisc", "add", "dev", device, "root", *bucket]))
        yield link
    finally:
        for name in (link.near, link.far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def delayed(
    to_port: int, work: Path, delay_ms: float, *, port: int, namespace: str | None, host: str = "127.0.0.1"
) -> Iterator[None]:
    """A relay process in front of `127.0.0.1:to_port`, with this delay in each direction."""
    options = ["--listen", f"{host}:{port}", "--to", f"127.0.0.1:{to_port}", "--delay-ms", str(delay_ms)]
    command, log = [sys.executable, "-m", "tests.bench.relay", *options], work / "relay.log"
    with running(command, log, namespace=namespace) as process:
        wait_listening(process, port, log)
        yield


def _ip(*arguments: str) -> None:
    _call(["ip", *arguments])


def _call(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10)
