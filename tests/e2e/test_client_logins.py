"""What real clients get with a login at the facade, where the upstream refuses, grants or passes it through."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import pytest

from tests.e2e.corporate import (
    ALICE,
    CREDENTIALS,
    DIRECT,
    FACADE,
    FAILS,
    MALLORY,
    NOBODY,
    NODE,
    OPEN,
    OTHER,
    PASSTHROUGH,
    PRIVATE,
    REFUSE,
    REPOSITORY,
    Ask,
    Corporate,
    start_private,
    write_config,
)
from tests.e2e.library import Library
from tests.e2e.mesh import start_nodes
from tests.e2e.network import Host, Network
from tests.e2e.registry import Registry
from tests.e2e.runtimes.buildkit import BuildKit
from tests.e2e.runtimes.containerd import Containerd, Containerd24
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.cri import Cri
from tests.e2e.runtimes.docker import Docker
from tests.e2e.runtimes.runtime import Mirrored, Mirrors

pytestmark = pytest.mark.e2e

AS_A_MIRROR: Final[Mapping[Ask, str]] = {
    (PASSTHROUGH, ALICE): NODE,
    (PASSTHROUGH, NOBODY): FAILS,  # though the bytes are here, and upstream gives it nothing either
    (PASSTHROUGH, MALLORY): FAILS,
    (CREDENTIALS, NOBODY): NODE,
    (REFUSE, ALICE): DIRECT,
}
BY_FULL_NAME: Final[Mapping[Ask, str]] = {
    **AS_A_MIRROR,
    (REFUSE, ALICE): FAILS,
    (OPEN, MALLORY): NODE,  # the last, for its bytes are the others', and are for everybody from here on
    (OPEN, NOBODY): NODE,
}


class Starts(Protocol):
    """A client's class, seen as what starts one."""

    def start(self, host: Host, mirrors: Mirrors) -> Mirrored:
        """Start it on a host."""


@pytest.fixture
def corporate(network: Network, registry: Registry, library: Library, folder: Path) -> Corporate:
    """The private registry, and the node in front of it."""
    return Corporate.start(network, registry, library, folder)


def named(namespace: str) -> str:
    """The image of a namespace."""
    return f"{namespace}/{REPOSITORY}:1"


@pytest.mark.parametrize("kind", [Containerd, Containerd24, Cri, Podman, Skopeo])
def test_a_login_counts_as_a_mirror_and_by_full_name(corporate: Corporate, kind: Starts) -> None:
    client = kind.start(corporate.node.host, Mirrors())
    for namespace in PRIVATE:
        client.mirror(namespace, corporate.registry.address)
    assert corporate.outcomes(client, "", AS_A_MIRROR) == AS_A_MIRROR
    assert corporate.outcomes(client, f"{FACADE}/", BY_FULL_NAME) == BY_FULL_NAME


def test_docker_has_one_login_for_all_that_is_passed_through_and_needs_none_from_its_mirror(
    corporate: Corporate,
) -> None:
    docker = Docker.start(corporate.node.host, Mirrors())
    expected = {(OTHER, ALICE): NODE, **BY_FULL_NAME}
    assert corporate.outcomes(docker, f"{FACADE}/", expected) == expected
    assert corporate.outcome(lambda: docker.attempt(named("docker.io"), NOBODY)) == NODE


@pytest.mark.parametrize("access", ["refuse", "credentials", "passthrough"])
def test_docker_sends_no_login_to_its_mirror_and_goes_to_docker_hub_for_what_needs_one(
    network: Network, library: Library, folder: Path, access: str
) -> None:
    private = start_private(network, library)
    config = write_config(folder, private, {"docker.io": (private, access)})
    [node] = start_nodes(network, private, "a", "--config", config)
    docker = Docker.start(node.host, Mirrors())
    docker.keep_login("https://index.docker.io/v1/", ALICE)
    pulling = docker.pulling(f"docker.io/{REPOSITORY}:1")
    if access == "credentials":
        pulling.finish()
        return
    with pytest.raises(AssertionError, match=r"https://registry-1\.docker\.io/"):
        pulling.finish()


def test_buildkit_has_one_login_for_the_facade_also_as_a_mirror(corporate: Corporate) -> None:
    buildkit = BuildKit.start(corporate.node.host, Mirrors(), *PRIVATE)
    mirrored = {ask: outcome for ask, outcome in AS_A_MIRROR.items() if outcome is not DIRECT}  # it finds no other way
    assert corporate.outcomes(buildkit, "", mirrored) == mirrored
    assert corporate.outcomes(buildkit, f"{FACADE}/", BY_FULL_NAME) == BY_FULL_NAME


def test_podman_has_a_login_for_each_namespace(corporate: Corporate) -> None:
    client = Podman.start(corporate.node.host, Mirrors())
    client.mirror(PASSTHROUGH, corporate.registry.address)
    one, other = f"{FACADE}/{named(PASSTHROUGH)}", f"{FACADE}/{named(OTHER)}"
    of_one = {f"{FACADE}/{PASSTHROUGH}": ALICE}
    assert corporate.outcome(lambda: client.attempt_with(one, of_one)) == NODE
    assert corporate.outcome(lambda: client.attempt_with(other, of_one)) == FAILS
    assert corporate.outcome(lambda: client.attempt_with(named(PASSTHROUGH), of_one)) == NODE
    of_registry = {corporate.registry.address: ALICE}
    assert corporate.outcome(lambda: client.attempt_with(named(PASSTHROUGH), of_registry)) == DIRECT


def test_a_pull_secret_goes_to_the_mirror_unless_it_names_a_server(corporate: Corporate) -> None:
    cri = Cri.start(corporate.node.host, Mirrors())
    cri.mirror(PASSTHROUGH, corporate.registry.address)
    user, password = ALICE
    auth = b64encode(f"{user}:{password}".encode()).decode()
    for address, outcome in {"": NODE, f"http://{FACADE}": NODE, corporate.registry.url: DIRECT}.items():
        server = {"server_address": address} if address else {}
        assert corporate.outcome(lambda: cri.pull_with(named(PASSTHROUGH), auth=auth, **server)) == outcome  # noqa: B023
