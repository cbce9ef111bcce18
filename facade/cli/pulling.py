"""What a person types to pull through this node with Docker, Podman and containerd: pure text."""

from typing import Final

from facade.settings import Address

PODMAN_FILE: Final = "/etc/containers/registries.conf.d/50-layermesh.conf"
CONTAINERD_FOLDER: Final = "/etc/containerd/certs.d"
DOCKER_FILE: Final = "/etc/docker/daemon.json"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(address: Address) -> Address:
    """The address that a client on this machine uses: loopback, where a listener has every interface."""
    return Address(_WILDCARDS.get(address.host, address.host), address.port)


def podman_conf(facade: Address) -> str:
    """A drop-in for containers-registries.conf(5): docker.io by way of the facade, directly where that fails."""
    return f"""\
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "{reachable(facade)}/docker.io"
insecure = true
"""


def containerd_hosts(facade: Address) -> str:
    """A hosts.toml for docker.io (containerd, docs/hosts.md)."""
    return f"""\
server = "https://registry-1.docker.io"
[host."http://{reachable(facade)}"]
  capabilities = ["pull", "resolve"]
"""


def docker_daemon(mirror: Address) -> str:
    """What dockerd wants in its daemon.json."""
    return f'{{"registry-mirrors": ["http://{reachable(mirror)}"]}}'


def commands(facade: Address, mirror: Address | None) -> str:
    """Lines to paste into a root shell of this machine, one paragraph for each runtime."""
    return "\n".join((_docker(facade, mirror), _podman(facade), _containerd(facade)))


def _docker(facade: Address, mirror: Address | None) -> str:
    full_name = f"docker pull {reachable(facade)}/docker.io/library/alpine:latest\n"
    if mirror is None:
        return f"# Docker, by full name:\n{full_name}"
    return f"""\
# Docker: once, as root (kept as it is where there is a {DOCKER_FILE} already), then for every pull from Docker Hub:
mkdir -p /etc/docker && (set -C; echo '{docker_daemon(mirror)}' > {DOCKER_FILE}) && systemctl reload docker
docker pull alpine:latest
# Docker without any configuration, and for other registries:
{full_name}"""


def _podman(facade: Address) -> str:
    return f"""\
# Podman, CRI-O, Buildah, skopeo: once, as root, then for every pull from Docker Hub:
mkdir -p {PODMAN_FILE.rpartition("/")[0]} && cat > {PODMAN_FILE} <<'END'
{podman_conf(facade)}END
podman pull docker.io/library/alpine:latest
"""


def _containerd(facade: Address) -> str:
    folder = f"{CONTAINERD_FOLDER}/docker.io"
    return f"""\
# containerd: once, as root, then for every pull from Docker Hub:
mkdir -p {folder} && cat > {folder}/hosts.toml <<'END'
{containerd_hosts(facade)}END
ctr images pull --hosts-dir {CONTAINERD_FOLDER} docker.io/library/alpine:latest
"""
