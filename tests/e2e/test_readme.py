"""The README's commands work as they are written there."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import ADMIN, FACADE, LAYERMESH, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.shell import CONTAINERD, DOCKER, type_in

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).parents[2]


def _readme(start: str) -> str:
    """The one indented block or line of the README that begins so."""
    text = (ROOT / "README.md").read_text()
    lines = [line.strip() for line in text.splitlines() if re.match(rf" {{4,}}{re.escape(start)}", line)]
    assert lines, f"the README has no example that begins with {start}"
    return lines[0]


@pytest.mark.parametrize(
    ("start", "daemon"),
    [("docker pull", DOCKER), ("podman pull", ""), ("ctr images pull", CONTAINERD)],
    ids=["docker", "podman", "containerd"],
)
def test_a_runtime_without_configuration_pulls_with_the_readme_s_line(
    network: Network, registry: Registry, library: Library, start: str, daemon: str
) -> None:
    [node] = start_nodes(network, registry, "a")
    type_in(node, f"{daemon}{_readme(start)}\n")


@pytest.mark.parametrize("command", ["status", "peers", "where", "version"])
def test_the_readme_s_questions_are_answered(
    network: Network, registry: Registry, library: Library, command: str
) -> None:
    [node] = start_nodes(network, registry, "a")
    node.host.request(f"{FACADE}/v2/docker.io/library/alpine/manifests/latest", headers={"Accept": "*/*"})
    asked = _readme(f"layermesh {command}").partition("#")[0].split()
    assert asked[0] == "layermesh"
    assert node.host.run([LAYERMESH, *asked[1:]])
    assert node.ask(*asked[1:])


def test_make_up_runs_a_node_that_stops_when_it_is_told(network: Network, registry: Registry) -> None:
    assert _readme("make up")
    subprocess.run(["make", ".venv/.run"], cwd=ROOT, check=True, capture_output=True, timeout=100)
    host = network.host("a")
    flags = f"--data {host.folder / 'data'} --upstream docker.io={registry.url}"
    node = host.start(["make", "--directory", str(ROOT), "up", f"ARGS={flags}"], name="make-layermesh")
    node.until(lambda: host.answers(f"{ADMIN}/readyz"), "the node is ready", within_s=30)
    assert host.request(f"{FACADE}/v2/").status == 200
    node.terminate(within_s=10)
    assert "stopped" in node.output()
