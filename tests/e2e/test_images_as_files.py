"""Images as files: skopeo pulls what was brought, and reads what was taken; Kubo takes and brings them as well."""

import json
import subprocess
from pathlib import Path

import pytest

from node.cid import Cid
from tests.e2e.library import Library
from tests.e2e.mesh import Node, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.runtime import AMD64, ARM64, Mirrors, assert_unpacked, pull
from tests.facade.images.layouts import layout_of, to_folder
from tests.fakes.images import FakeImage, Flavour, make_image, write_layout
from tests.kubo.daemon import built_kubo, kubo_environment, lay_repository

pytestmark = pytest.mark.e2e

SMALL = "docker.io/library/small:1"


@pytest.fixture
def apart(network: Network, registry: Registry) -> tuple[Node, Node]:
    """A node that reaches the registry, and one on a machine without a network."""
    (near,) = start_nodes(network, registry, "a", "--no-mdns")
    away = Node.start(network.host("b"), registry, "--no-mdns")
    away.wait_ready()
    away.host.cut_off()
    return near, away


@pytest.mark.parametrize("form", ["small.car", "small"])
def test_what_was_taken_here_is_pulled_on_a_machine_without_a_network(
    apart: tuple[Node, Node], library: Library, folder: Path, form: str
) -> None:
    near, away = apart
    near.ask("export", SMALL, str(folder / form))
    away.ask("import", str(folder / form))
    skopeo = Skopeo.start(away.host, Mirrors())
    for platform, content in zip((AMD64, ARM64), library.small.images, strict=True):
        pull(skopeo, SMALL, platform)
        assert_unpacked(skopeo, SMALL, content, platform)


def test_layouts_of_skopeo_and_podman_are_brought_and_ours_are_read(
    network: Network, registry: Registry, folder: Path
) -> None:
    (node,) = start_nodes(network, registry, "a", "--no-mdns")
    image = make_image("layouts", (40_000,))
    write_layout(folder / "written", {"1": image})
    skopeo = Skopeo.start(node.host, Mirrors())
    skopeo.copy(f"oci:{folder}/written:1", f"oci:{folder}/skopeos:team/app:v1")
    Podman.start(node.host, Mirrors()).save(folder / "written", folder / "podmans")
    node.ask("import", str(folder / "skopeos"))
    node.ask("import", "--as", "team/saved:v1", str(folder / "podmans"))
    for name in ("127.0.0.1:5050/team/app:v1", "127.0.0.1:5050/team/saved:v1"):
        pull(skopeo, name)
        assert_unpacked(skopeo, name, image)

    node.ask("export", "127.0.0.1:5050/team/app:v1", str(folder / "ours"))
    seen = node.host.run(["skopeo", "inspect", f"oci:{folder}/ours:v1"], environment=skopeo.environment)
    assert json.loads(seen)["Digest"] == str(image.manifest.digest)


def test_an_image_of_docker_s_media_types_is_read_by_skopeo_where_it_is_alone(
    network: Network, registry: Registry, folder: Path
) -> None:
    (node,) = start_nodes(network, registry, "a", "--no-mdns")
    image = make_image("docker", (40_000,), flavour=Flavour.DOCKER)
    to_folder(layout_of(image), folder / "written")
    node.ask("import", str(folder / "written"))
    node.ask("export", "127.0.0.1:5050/team/app:v1", str(folder / "ours"))
    skopeo = Skopeo.start(node.host, Mirrors())
    seen = node.host.run(["skopeo", "inspect", f"oci:{folder}/ours"], environment=skopeo.environment)
    assert json.loads(seen)["Digest"] == str(image.manifest.digest)
    pull(skopeo, "127.0.0.1:5050/team/app:v1")
    assert_unpacked(skopeo, "127.0.0.1:5050/team/app:v1", image)


class _Kubo:
    """Kubo's command line on a repository of its own, without a daemon."""

    def __init__(self, repo: Path) -> None:
        self._repo = repo
        repo.mkdir()
        nowhere = "/ip4/127.0.0.1/tcp/0"
        lay_repository(repo, swarm=nowhere, api=nowhere, gateway=nowhere, settings={})

    def run(self, *arguments: str) -> bytes:
        done = subprocess.run(
            [built_kubo(), *arguments], env=kubo_environment(self._repo), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def test_kubo_pins_an_image_that_was_taken_and_gives_a_layout_that_skopeo_reads(
    network: Network, registry: Registry, library: Library, folder: Path
) -> None:
    (node,) = start_nodes(network, registry, "a", "--no-mdns")
    kubo, car = _Kubo(folder / "kubo"), folder / "small.car"
    root = node.ask("export", SMALL, str(car))["root"]
    kubo.run("dag", "import", str(car))
    assert root in kubo.run("pin", "ls", "--type=recursive", "--quiet").decode().split()
    kubo.run("get", root, "--output", str(folder / "got"))
    seen = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{folder}/got:1"], capture_output=True, check=True, timeout=60
    )
    assert seen.stdout == library.small.manifest.data
    assert kubo.run("dag", "export", root) == car.read_bytes()
    assert kubo.run("add", "--recursive", "--quieter", str(folder / "got")).decode().strip() == root


def _version_1(root: str) -> str:
    return str(Cid.parse(root))


def _path(image: FakeImage) -> str:
    return f"blobs/sha256/{image.layers[0].digest.hex}"


@pytest.mark.parametrize(
    "profile",
    [
        ("--cid-version=0", "--raw-leaves=false", "--chunker=size-262144", "--max-file-links=174"),
        ("--chunker=size-65536", "--trickle"),
        ("--chunker=rabin", "--inline", "--inline-limit=128"),
    ],
    ids=["version 0", "trickle", "rabin and inline"],
)
def test_what_kubo_added_and_exports_is_brought_however_it_cut_the_files(
    network: Network, registry: Registry, folder: Path, profile: tuple[str, ...]
) -> None:
    (node,) = start_nodes(network, registry, "a", "--no-mdns")
    image, kubo, car = make_image("foreign", (1_500_000, 10)), _Kubo(folder / "kubo"), folder / "foreign.car"
    write_layout(folder / "layout", {"v1": image})
    root = kubo.run("add", "--recursive", "--quieter", *profile, str(folder / "layout")).decode().strip()
    car.write_bytes(kubo.run("dag", "export", root))
    assert node.ask("import", "--public", "--as", "team/app", str(car))["kept"] == _version_1(root)
    for path, data in (
        ("index.json", (folder / "layout" / "index.json").read_bytes()),
        (_path(image), image.layers[0].data),
    ):
        assert node.host.request(f"http://127.0.0.1:5051/ipfs/{root}/{path}").body == data
    again = node.host.request(f"http://127.0.0.1:5051/ipfs/{root}?format=car").body
    (folder / "again.car").write_bytes(again)
    assert _Kubo(folder / "other").run("dag", "import", str(folder / "again.car")).split()[2] == root.encode()
    skopeo = Skopeo.start(node.host, Mirrors())
    pull(skopeo, "127.0.0.1:5050/team/app:v1")
    assert_unpacked(skopeo, "127.0.0.1:5050/team/app:v1", image)
