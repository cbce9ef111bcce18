"""What a person types to pull through this node with Docker, Podman and containerd: pure text."""

from dataclasses import dataclass
from typing import Final

from facade.settings import Address

PODMAN_FILE: Final = "/etc/containers/registries.conf.d/50-layermesh.conf"
CONTAINERD_FOLDER: Final = "/etc/containerd/certs.d"
DOCKER_FILE: Final = "/etc/docker/daemon.json"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(address: Address) -> Address:
    """The address that a client on this machine uses: loopback, where a listener has every interface."""
    return Address(_WILDCARDS.get(address.host, address.host), address.port)


@dataclass(frozen=True, slots=True)
class Doors:
    """What a client of the registry listeners needs."""

    tls: bool = False
    users: bool = False
    """`/v2/` asks for a login, and Docker sends an empty one to nobody."""
    login: bool = False
    """Docker Hub's images are for users alone."""

    @property
    def scheme(self) -> str:
        """How a URL to them begins."""
        return "https" if self.tls else "http"


OPEN: Final = Doors()


def podman_conf(facade: Address, doors: Doors = OPEN) -> str:
    """A drop-in for containers-registries.conf(5): docker.io by way of the facade, directly where that fails."""
    return f"""\
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "{reachable(facade)}/docker.io"
insecure = {"false" if doors.tls else "true"}
"""


def containerd_hosts(facade: Address, doors: Doors = OPEN) -> str:
    """A hosts.toml for docker.io (containerd, docs/hosts.md)."""
    url = f"{doors.scheme}://{reachable(facade)}"
    hosts = f"""\
server = "https://registry-1.docker.io"
[host."{url}"]
  capabilities = ["pull", "resolve"]
"""
    if not doors.login:
        return hosts
    return f"""\
{hosts}[host."{url}".header]
  authorization = "Basic BASE64_OF_USER:PASSWORD"
"""


def docker_daemon(mirror: Address, doors: Doors = OPEN) -> str:
    """What dockerd wants in its daemon.json."""
    return f'{{"registry-mirrors": ["{doors.scheme}://{reachable(mirror)}"]}}'


def commands(facade: Address, mirror: Address | None, doors: Doors = OPEN) -> str:
    """Lines to paste into a root shell of this machine, one paragraph for each runtime."""
    note = ""
    if doors.tls:
        note = (
            f"# TLS: write a name that the certificate holds in the place of {reachable(facade).host};"
            " this machine must trust its issuer.\n\n"
        )
    return note + "\n".join((_docker(facade, mirror, doors), _podman(facade, doors), _containerd(facade, doors)))


def _docker(facade: Address, mirror: Address | None, doors: Doors) -> str:
    login = f"docker login {reachable(facade)}\n" if doors.users else ""
    full_name = f"{login}docker pull {reachable(facade)}/docker.io/library/alpine:latest\n"
    if mirror is None:
        return f"# Docker, by full name:\n{full_name}"
    if doors.login:
        return f"# Docker, by full name (it sends no login to mirrors, and goes to Docker Hub instead):\n{full_name}"
    return f"""\
# Docker: once, as root (kept as it is where there is a {DOCKER_FILE} already), then for every pull from Docker Hub:
mkdir -p /etc/docker && (set -C; echo '{docker_daemon(mirror, doors)}' > {DOCKER_FILE}) && systemctl reload docker
docker pull alpine:latest
# Docker without any configuration, and for other registries:
{full_name}"""


def _podman(facade: Address, doors: Doors) -> str:
    verify = "" if doors.tls else "--tls-verify=false "
    login = f"podman login {verify}{reachable(facade)}\n" if doors.login else ""
    return f"""\
# Podman, CRI-O, Buildah, skopeo: once, as root, then for every pull from Docker Hub:
mkdir -p {PODMAN_FILE.rpartition("/")[0]} && cat > {PODMAN_FILE} <<'END'
{podman_conf(facade, doors)}END
{login}podman pull docker.io/library/alpine:latest
"""


def _containerd(facade: Address, doors: Doors) -> str:
    folder = f"{CONTAINERD_FOLDER}/docker.io"
    return f"""\
# containerd: once, as root, then for every pull from Docker Hub:
mkdir -p {folder} && cat > {folder}/hosts.toml <<'END'
{containerd_hosts(facade, doors)}END
ctr images pull --hosts-dir {CONTAINERD_FOLDER} docker.io/library/alpine:latest
"""
