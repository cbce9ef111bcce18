"""What `layermesh up` prints is typed into a shell as it stands, and pulls."""

import re

import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import Node, sample, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry

pytestmark = pytest.mark.e2e

# The machine's own folders, which may be written and are not changed: what is written is this process's alone.
_MACHINE = """\
set -eu
cd "$0"
mkdir -p etc work containerd docker containers
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc,workdir=work /etc
mount -t tmpfs tmpfs /run
for name in containerd docker containers; do
    mkdir -p /var/lib/$name
    mount --bind $name /var/lib/$name
done
systemctl() { :; }  # the daemon is started after its configuration is written
wait_for() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; cat "$0"/*.log; return 1; }
"""
_CONTAINERD = 'containerd >"$0/containerd.log" 2>&1 &\nwait_for ctr version\n'
_DOCKER = 'dockerd --bridge=none --iptables=false --ip6tables=false >"$0/dockerd.log" 2>&1 &\nwait_for docker version\n'


@pytest.fixture
def printed(network: Network, registry: Registry, library: Library) -> tuple[Node, dict[str, str]]:
    """A node over a Docker Hub that has `alpine`, and the paragraphs it prints, by the runtime they begin with."""
    [node] = start_nodes(network, registry, "a")
    node.process.until(lambda: "ctr images pull" in node.process.output(), "the commands are printed")
    paragraphs = re.split(r"^(?=# )", node.process.output(), flags=re.MULTILINE)
    return node, {re.split(r"\W+", text)[1]: text for text in reversed(paragraphs) if text.startswith("# ")}


def _type(node: Node, script: str) -> None:
    folder = node.host.folder / "machine"
    folder.mkdir()
    before = sample(node.host, "http://127.0.0.1:5052", "layermesh_served_bytes_total")
    node.host.run(["sh", "-c", script, str(folder)])
    assert sample(node.host, "http://127.0.0.1:5052", "layermesh_served_bytes_total") > before + 1_000_000


def test_podman_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    _type(node, _MACHINE + paragraphs["Podman"])


def test_containerd_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    _type(node, _MACHINE + _CONTAINERD + paragraphs["containerd"])


def test_docker_pulls_with_the_printed_lines(printed: tuple[Node, dict[str, str]]) -> None:
    node, paragraphs = printed
    configure, pull = re.split(r"^(?=docker pull )", paragraphs["Docker"], maxsplit=1, flags=re.MULTILINE)
    _type(node, _MACHINE + configure + _DOCKER + pull)
