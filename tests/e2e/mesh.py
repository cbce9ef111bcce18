"""layermesh itself, as the tests start and question it."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from node.digest import Digest
from tests.e2e.network import Host, Network
from tests.e2e.process import Process, wait_until

LAYERMESH: Final = str(Path(sys.executable).parent / "layermesh")
FACADE: Final = "http://127.0.0.1:5050"
ADMIN: Final = "http://127.0.0.1:5052"
_OWN_DISK: Final = 'mount -t tmpfs -o size="$1"m tmpfs "$0" && shift && exec "$@"'
_DISK_FILE: Final = 'mkdir -p "$0" && mount -o loop,commit=300 "$1" "$0" && shift && exec "$@"'
_SAMPLE: Final = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


class Upstream(Protocol):
    """A registry that stands for `docker.io`."""

    @property
    def url(self) -> str:
        """Where it is reached."""


@dataclass
class Node:
    """One layermesh on a host, with the default addresses and nothing configured but its upstream."""

    host: Host
    data: Path
    command: tuple[str, ...]
    process: Process

    @classmethod
    def start(
        cls, host: Host, registry: Upstream, *options: str, disk_mib: int | None = None, disk_file: Path | None = None
    ) -> Self:
        """`layermesh up`, on a disk of this size or from `make_disk`; ask `wait_ready` before anything else."""
        data = host.folder / "layermesh"
        disk = ["sh", "-c", _OWN_DISK, str(data), str(disk_mib)] if disk_mib else []
        disk = ["sh", "-c", _DISK_FILE, str(data), str(disk_file)] if disk_file else disk
        up = (*disk, LAYERMESH, "up", "--data", str(data), "--upstream", f"docker.io={registry.url}", *options)
        return cls(host, data, up, cls._launch(host, up))

    def start_again(self) -> None:
        """The same node on the same data, after it has ended."""
        self.process = self._launch(self.host, self.command)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it says that it serves."""
        self.process.until(lambda: self.host.answers(f"{ADMIN}/readyz"), "the node is ready")

    def ask(self, *command: str) -> Any:
        """What a command of the command line answers, as JSON."""
        return json.loads(self.host.run([LAYERMESH, *command, "--json"]))

    def sample(self, metric: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sample(self.host, ADMIN, metric, **labels)

    def fetched(self, source: str) -> int:
        """Bytes that came to this node from such a source."""
        return int(self.sample("layermesh_fetched_bytes_total", source=source))

    def peers_with(self, digest: Digest) -> list[Any]:
        """The peers that this node believes to hold a blob."""
        answer = self.host.request(f"{ADMIN}/api/where?ref={digest}")
        if answer.status == 404:
            return []
        assert answer.status == 200, answer
        return list(json.loads(answer.body)["blobs"][0]["peers"])

    def stored(self) -> dict[str, bool]:
        """Each blob file's path -> whether its bytes hash to its name; and what lies in `incoming`, as false."""
        found = {}
        for path in (self.data / "blobs").rglob("*"):
            if path.is_file():
                found[path.name] = Digest.of(path.read_bytes()).hex == path.name
        found.update({str(path): False for path in (self.data / "incoming").rglob("*") if path.is_file()})
        return found

    def most_memory(self) -> int:
        """The most bytes that this run of it had resident so far."""
        status = Path(f"/proc/{self.process.popen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    @staticmethod
    def _launch(host: Host, command: Sequence[str]) -> Process:
        return host.start(command, name="layermesh")


def make_disk(file: Path, size_mib: int = 64) -> Path:
    """A disk in a file: what was not synced is not in it."""
    with file.open("wb") as made:
        made.truncate(size_mib << 20)
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True, capture_output=True)
    return file


def sample(host: Host, admin: str, metric: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels, as the node at `admin` shows them to `host`."""
    text = host.request(f"{admin}/metrics").body.decode()
    found = [
        float(match["value"])
        for match in _SAMPLE.finditer(text)
        if match["name"] == metric and labels.items() <= dict(_LABEL.findall(match["labels"] or "")).items()
    ]
    assert found, f"no {metric} with {labels} among the metrics"
    return sum(found)


def start_nodes(network: Network, registry: Upstream, names: str, *options: str) -> list[Node]:
    """A node on a machine of its own for each letter of `names`; they are ready, and have met."""
    nodes = [Node.start(network.host(name), registry, *options) for name in names]
    for node in nodes:
        node.wait_ready()
    wait_until_met(*nodes)
    return nodes


def wait_until_met(*nodes: Node, within_s: float = 15) -> None:
    """Wait until each of these nodes sees all the others alive."""
    others = len(nodes) - 1
    wait_until(
        lambda: all(node.sample("layermesh_peers", state="alive") >= others for node in nodes),
        f"each of {len(nodes)} nodes sees all others",
        within_s,
    )


def wait_until_known(node: Node, digests: Sequence[Digest], holders: int = 1, within_s: float = 20) -> None:
    """Wait until `node` knows so many peers for each of these digests."""

    def _unknown() -> list[str]:
        return [str(digest) for digest in digests if len(node.peers_with(digest)) < holders]

    try:
        wait_until(
            lambda: not _unknown(), f"{node.host.name} knows {holders} peers for {len(digests)} digests", within_s
        )
    except AssertionError as error:
        raise AssertionError(f"{error}, but not for {_unknown()}") from None


def wait_until_pushed(node: Node, repository: str, reference: str, within_s: float = 10) -> None:
    """Wait until `node` serves what was pushed to an own repository through another node.

    Raises:
        AssertionError: when it does not in time, or answers anything but that it has no such manifest yet.
    """

    def _served() -> bool:
        answer = node.host.request(f"{FACADE}/v2/{repository}/manifests/{reference}", method="HEAD")
        assert answer.status in (200, 404), answer
        return answer.status == 200

    wait_until(_served, f"{node.host.name} serves {repository}:{reference}", within_s)
