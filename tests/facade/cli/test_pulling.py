"""The text that people paste is what the runtimes read."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from facade.cli.pulling import (
    CONTAINERD_FOLDER,
    PODMAN_FILE,
    Doors,
    commands,
    containerd_hosts,
    docker_daemon,
    podman_conf,
    reachable,
)
from facade.settings import Address

FACADE = Address("127.0.0.1", 5050)
MIRROR = Address("127.0.0.1", 5053)


def test_podman_is_told_a_mirror_of_docker_hub() -> None:
    (registry,) = tomllib.loads(podman_conf(FACADE))["registry"]
    assert (registry["prefix"], registry["location"]) == ("docker.io", "docker.io")
    assert registry["mirror"] == [{"location": "127.0.0.1:5050/docker.io", "insecure": True}]


def test_containerd_is_told_a_host_for_docker_hub() -> None:
    hosts = tomllib.loads(containerd_hosts(FACADE))
    assert hosts["server"] == "https://registry-1.docker.io"
    assert hosts["host"] == {"http://127.0.0.1:5050": {"capabilities": ["pull", "resolve"]}}


def test_docker_is_told_the_mirror_listener() -> None:
    assert json.loads(docker_daemon(MIRROR)) == {"registry-mirrors": ["http://127.0.0.1:5053"]}


def test_over_tls_every_runtime_is_told_so() -> None:
    text = commands(FACADE, MIRROR, Doors(tls=True))
    assert "http://" not in text and "--tls-verify=false" not in text and "insecure = true" not in text
    assert "https://127.0.0.1:5053" in text and '[host."https://127.0.0.1:5050"]' in text
    assert text.startswith("# TLS: write a name that the certificate holds in the place of 127.0.0.1;")


def test_where_there_are_users_every_runtime_is_told_how_to_log_in() -> None:
    text = commands(FACADE, MIRROR, Doors(users=True, login=True))
    assert "docker login 127.0.0.1:5050\ndocker pull 127.0.0.1:5050/docker.io/library/alpine:latest" in text
    assert "podman login --tls-verify=false 127.0.0.1:5050\npodman pull docker.io/library/alpine:latest" in text
    assert "registry-mirrors" not in text, "dockerd sends no login to mirrors"
    hosts = tomllib.loads(containerd_hosts(FACADE, Doors(users=True, login=True)))
    header = {"authorization": "Basic BASE64_OF_USER:PASSWORD"}
    assert hosts["host"]["http://127.0.0.1:5050"] == {"capabilities": ["pull", "resolve"], "header": header}


def test_where_anybody_may_read_docker_hub_only_docker_by_full_name_is_told_to_log_in() -> None:
    text = commands(FACADE, MIRROR, Doors(users=True))
    assert "podman login" not in text and "authorization" not in text
    mirrored, by_name = text.partition("\n\n")[0].split("# Docker without any configuration")
    assert docker_daemon(MIRROR) in mirrored and "docker login" not in mirrored
    assert by_name.splitlines()[1] == "docker login 127.0.0.1:5050"


def test_without_a_mirror_listener_docker_pulls_by_full_name() -> None:
    assert "registry-mirrors" not in commands(FACADE, None)
    assert "docker pull 127.0.0.1:5050/docker.io/library/alpine:latest" in commands(FACADE, None)


def test_what_needs_root_says_so() -> None:
    paragraphs = commands(FACADE, MIRROR).split("\n\n")
    assert ["as root" in text.splitlines()[0] for text in paragraphs] == ["/etc/" in text for text in paragraphs]


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("::1", "[::1]:1")])
def test_a_listener_on_every_interface_is_reached_by_loopback(host: str, shown: str) -> None:
    assert str(reachable(Address(host, 1))) == shown


def test_the_lines_pasted_into_a_shell_write_exactly_those_files(tmp_path: Path) -> None:
    """The paths are moved into a folder of the test, and the runtimes' own commands made to do nothing."""
    text = commands(FACADE, MIRROR).replace("/etc/", f"{tmp_path}/")
    quiet = "docker() { :; }; podman() { :; }; ctr() { :; }; systemctl() { :; }\n"
    subprocess.run(["/bin/sh", "-ec", quiet + text], check=True, timeout=30)
    inside = tmp_path.joinpath
    assert inside(PODMAN_FILE.removeprefix("/etc/")).read_text() == podman_conf(FACADE)
    folder = CONTAINERD_FOLDER.removeprefix("/etc/")
    assert inside(folder, "docker.io", "hosts.toml").read_text() == containerd_hosts(FACADE)
    assert inside("docker/daemon.json").read_text().strip() == docker_daemon(MIRROR)


def test_a_daemon_json_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/daemon.json").write_text("{}")
    line = next(line for line in commands(FACADE, MIRROR).splitlines() if "set -C" in line)
    moved = line.replace("/etc/", f"{tmp_path}/")
    done = subprocess.run(["/bin/sh", "-c", moved], timeout=30, capture_output=True, check=False)
    assert done.returncode != 0
    assert (tmp_path / "docker/daemon.json").read_text() == "{}"
