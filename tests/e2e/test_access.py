"""Nodes with users, a certificate and rules: real runtimes log in, and pull by what `layermesh up` prints."""

import base64
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from tests.e2e.library import Library
from tests.e2e.mesh import Node, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.shell import CONTAINERD, DOCKER, type_in

pytestmark = pytest.mark.e2e

FACADE: Final = "127.0.0.1:5050"
PASSWORD: Final = "wonder"
IMAGE: Final = f"docker://{FACADE}/docker.io/library/alpine:latest"
FOR_USERS: Final = f"docker://{FACADE}/docker.io/library/small:1"
RULES: Final = """
[[facade.access]]
repositories = ["docker.io/library/small"]
read = ["alice"]
[[facade.access]]
repositories = ["docker.io/*"]
read = ["anonymous"]
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A node with a user `alice`, what it prints by the runtime it is for, and its certificate if it has one."""

    node: Node
    paragraphs: dict[str, str]
    authority: Path | None


@pytest.fixture(params=["http", "tls"])
def guarded(
    request: pytest.FixtureRequest, network: Network, registry: Registry, library: Library, folder: Path
) -> Guarded:
    """Everything is for users."""
    authority = make_certificate(folder) if request.param == "tls" else None
    return start(network, registry, folder, authority=authority)


@pytest.fixture
def mixed(network: Network, registry: Registry, library: Library, folder: Path) -> Guarded:
    """One repository is for users, the others are for everybody."""
    return start(network, registry, folder, rules=RULES)


def start(
    network: Network, registry: Registry, folder: Path, *, rules: str = "", authority: Path | None = None
) -> Guarded:
    """A node with a user."""
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(6)).decode()
    (folder / "htpasswd").write_text(f"alice:{stored}\n")
    text = f'[facade]\nhtpasswd = "{folder}/htpasswd"\n'
    if authority:
        text += f'tls_cert = "{authority}"\ntls_key = "{folder}/ca.key"\n'
    (folder / "layermesh.toml").write_text(text + rules)
    [node] = start_nodes(network, registry, "a", "--config", str(folder / "layermesh.toml"))
    node.process.until(lambda: "ctr images pull" in node.process.output(), "the commands are printed")
    paragraphs = re.split(r"^(?=# )", node.process.output(), flags=re.MULTILINE)
    named = {re.split(r"\W+", text)[1]: text for text in reversed(paragraphs) if text.startswith("# ")}
    return Guarded(node, named, authority)


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody signed, in a folder of those that runtimes trust; its key is beside."""
    path = folder / "trusted" / "ca.crt"
    path.parent.mkdir()
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "ca.key")]
    names = ["-subj", "/CN=layermesh", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, *names, "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def trusting(guarded: Guarded, place: str) -> str:
    """Shell lines that make a runtime trust the certificate, if there is one."""
    if guarded.authority is None:
        return ""
    return f"mkdir -p {place} && cp {guarded.authority} {place}/\n"


def skopeo(guarded: Guarded, folder: Path, image: str) -> "subprocess.CompletedProcess[bytes]":
    """Copy an image out of the node, with the login of `folder` if there is one."""
    verify = f"--src-cert-dir={guarded.authority.parent}" if guarded.authority else "--src-tls-verify=false"
    copy = ["skopeo", "copy", "--override-arch=amd64", verify, image, f"dir:{folder}/pulled"]
    return guarded.node.host.attempt(copy, environment={"REGISTRY_AUTH_FILE": str(folder / "auth.json")})


def skopeo_login(guarded: Guarded, folder: Path, password: str) -> bool:
    """Log in."""
    verify = f"--cert-dir={guarded.authority.parent}" if guarded.authority else "--tls-verify=false"
    login = ["skopeo", "login", verify, "--username=alice", f"--password={password}", FACADE]
    done = guarded.node.host.attempt(login, environment={"REGISTRY_AUTH_FILE": str(folder / "auth.json")})
    return done.returncode == 0


def test_skopeo_pulls_after_it_has_logged_in_and_not_before(guarded: Guarded, folder: Path) -> None:
    assert b"unauthorized" in skopeo(guarded, folder, IMAGE).stderr.lower()
    assert not skopeo_login(guarded, folder, "wrong")
    assert skopeo_login(guarded, folder, PASSWORD)
    assert skopeo(guarded, folder, IMAGE).returncode == 0


def test_skopeo_without_a_login_pulls_what_is_for_everybody_and_with_it_what_is_for_users(
    mixed: Guarded, folder: Path
) -> None:
    assert skopeo(mixed, folder, IMAGE).returncode == 0
    assert b"unauthorized" in skopeo(mixed, folder, FOR_USERS).stderr.lower()
    assert not skopeo_login(mixed, folder, "wrong")
    assert skopeo_login(mixed, folder, PASSWORD)
    assert skopeo(mixed, folder, FOR_USERS).returncode == 0


def test_podman_logs_in_and_pulls_with_the_printed_lines(guarded: Guarded) -> None:
    lines = guarded.paragraphs["Podman"].replace(
        "podman login ", f"podman login --username alice --password {PASSWORD} "
    )
    type_in(guarded.node, trusting(guarded, f"/etc/containers/certs.d/{FACADE}") + lines)


def test_docker_logs_in_and_pulls_with_the_printed_lines(guarded: Guarded) -> None:
    lines = guarded.paragraphs["Docker"].replace(
        "docker login ", f"docker login --username alice --password {PASSWORD} "
    )
    type_in(guarded.node, trusting(guarded, f"/etc/docker/certs.d/{FACADE}") + DOCKER + lines)


def test_containerd_pulls_with_the_printed_lines(guarded: Guarded) -> None:
    login = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    lines = guarded.paragraphs["containerd"].replace("BASE64_OF_USER:PASSWORD", login)
    if guarded.authority:
        lines = lines.replace("  capabilities", f'  ca = "{guarded.authority}"\n  capabilities')
    type_in(guarded.node, CONTAINERD + lines)


def test_podman_and_containerd_pull_without_a_login_what_is_for_everybody(mixed: Guarded) -> None:
    assert "login" not in mixed.paragraphs["Podman"]
    type_in(mixed.node, mixed.paragraphs["Podman"] + CONTAINERD + mixed.paragraphs["containerd"])


def test_docker_pulls_without_a_login_what_is_for_everybody_from_its_mirror(mixed: Guarded) -> None:
    configure, pull = re.split(r"^(?=docker pull )", mixed.paragraphs["Docker"], maxsplit=1, flags=re.MULTILINE)
    assert "login" not in configure + pull
    type_in(mixed.node, configure + DOCKER + pull)


def test_docker_by_full_name_pulls_with_a_login_what_is_for_users(mixed: Guarded) -> None:
    pull = f"docker pull {FACADE}/docker.io/library/small:1\n"
    login = f"docker login --username alice --password {PASSWORD} {FACADE}\n"
    type_in(mixed.node, f"{DOCKER}! {pull}{login}{pull}")
