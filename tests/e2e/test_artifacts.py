"""What is pushed and is no plain image: through one node, and read through another, by tools and byte for byte."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from node.digest import Digest
from tests.e2e.mesh import Node, wait_until_pushed
from tests.e2e.process import wait_until
from tests.e2e.repository import EMPTY, OwnRepository
from tests.e2e.runtimes.buildkit import BuildKit
from tests.e2e.runtimes.containers import Podman, Skopeo
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull
from tests.e2e.runtimes.tools import Regctl
from tests.fakes.images import Blob, FakeImage, make_bytes, make_image, write_layout

pytestmark = pytest.mark.e2e

PLACE: Final = "127.0.0.1:5050/team"
IMAGE: Final = f"{PLACE}/app:1"
SIGNED: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"


@pytest.fixture(scope="module")
def image() -> FakeImage:
    """An image that things are about; the upstream has nothing of it."""
    return make_image("about", (40_000, 3_000_000))


@pytest.fixture
def layout(folder: Path, image: FakeImage) -> Path:
    """The image, tagged `1`, as a layout on disk."""
    write_layout(folder / "pushed", {"1": image})
    return folder / "pushed"


@pytest.fixture
def app(members: tuple[Node, Node]) -> tuple[OwnRepository, OwnRepository]:
    """`team/app`, as each of two members has it."""
    first, second = members
    return OwnRepository(first, "team/app"), OwnRepository(second, "team/app")


def _blob(media_type: str, data: bytes) -> Blob:
    return Blob(media_type, Digest.of(data), data)


def test_an_artifact_without_a_config_is_pushed_got_and_listed_by_regctl(
    app: tuple[OwnRepository, OwnRepository], image: FakeImage, folder: Path
) -> None:
    here, there = app
    kind, report = "application/vnd.example.report+json", folder / "report.json"
    report.write_bytes(make_bytes("report", 100_000))
    here.push(image, "1")
    put = ("artifact", "put", "--artifact-type", kind, "--file", str(report))
    regctl = Regctl.start(here.node.host, Mirrors())
    regctl.run(*put, f"{PLACE}/app:report")
    regctl.run(*put, "--annotation", "of=tests", "--subject", IMAGE)
    wait_until_pushed(there.node, there.name, "report")
    _wait_until_referred(there, image.manifest.digest, 1)

    regctl = Regctl.start(there.node.host, Mirrors())
    for named in ([f"{PLACE}/app:report"], ["--subject", IMAGE]):
        assert regctl.artifact(*named) == report.read_bytes()
    document = there.document("manifests/report")
    assert (document["artifactType"], document["config"]) == (kind, EMPTY.described)
    [listed] = json.loads(regctl.run("artifact", "list", "--format", "{{json .}}", IMAGE))["descriptors"]
    assert (listed["artifactType"], listed["annotations"]) == (kind, {"of": "tests"})


def test_signatures_as_cosign_stores_them_go_with_the_image_by_tag_and_as_referrer(
    app: tuple[OwnRepository, OwnRepository], image: FakeImage, folder: Path
) -> None:
    here, there = app
    here.push(image, "1")
    config = _blob(
        "application/vnd.oci.image.config.v1+json", b'{"architecture":"","os":"","rootfs":{"type":"layers"}}'
    )
    payload = _blob("application/vnd.dev.cosign.simplesigning.v1+json", b'{"critical":{}}')
    layer = {**payload.described, "annotations": {"dev.cosignproject.cosign/signature": "MEUCIQ=="}}
    for blob in (config, payload, EMPTY):
        here.put_blob(blob)
    tag = f"sha256-{image.manifest.digest.hex}.sig"
    by_tag = here.put_document(tag, config, [layer])
    referrer = here.put_document(None, EMPTY, [layer], artifactType=SIGNED, subject=image.manifest.described)
    wait_until_pushed(there.node, there.name, tag)
    [listed] = _wait_until_referred(there, image.manifest.digest, 1)
    assert listed == {**referrer.described, "artifactType": SIGNED}

    copy = folder / "copy"
    copying = ["image", "copy", "--digest-tags", "--referrers", IMAGE, f"ocidir://{copy}:1"]
    Regctl.start(there.node.host, Mirrors()).run(*copying)
    for blob in (*image.blobs, image.manifest, config, payload, by_tag, referrer):
        assert (copy / "blobs" / "sha256" / blob.digest.hex).read_bytes() == blob.data


def test_a_chart_as_helm_pushes_it_is_read_byte_for_byte(app: tuple[OwnRepository, OwnRepository]) -> None:
    here, there = app
    config = _blob("application/vnd.cncf.helm.config.v1+json", b'{"name":"chart","version":"1.2.3","apiVersion":"v2"}')
    chart = _blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", make_bytes("chart", 50_000))
    for blob in (config, chart):
        here.put_blob(blob)
    annotations = {"org.opencontainers.image.title": "chart"}
    manifest = here.put_document("1.2.3_build.4", config, [chart.described], annotations=annotations)
    wait_until_pushed(there.node, there.name, "1.2.3_build.4")

    assert there.read("manifests/1.2.3_build.4").body == manifest.data
    assert there.document("tags/list") == {"name": "team/app", "tags": ["1.2.3_build.4"]}
    for blob in (config, chart):
        assert there.read(f"blobs/{blob.digest}").body == blob.data


def test_layers_of_zstd_are_pushed_by_skopeo_and_unpacked_by_podman(
    app: tuple[OwnRepository, OwnRepository], layout: Path, image: FakeImage
) -> None:
    here, there = app
    Skopeo.start(here.node.host, Mirrors()).push(layout, IMAGE, "--dest-compress-format", "zstd")
    wait_until_pushed(there.node, there.name, "1")
    types = {layer["mediaType"] for layer in there.document("manifests/1")["layers"]}
    assert types == {"application/vnd.oci.image.layer.v1.tar+zstd"}

    podman = Podman.start(there.node.host, Mirrors())
    pull(podman, IMAGE)
    assert_unpacked(podman, IMAGE, image)


@pytest.mark.parametrize("form", ["manifest", "index"])
def test_a_cache_that_buildkit_keeps_in_a_repository_serves_a_build_on_another_machine(
    app: tuple[OwnRepository, OwnRepository], layout: Path, form: str
) -> None:
    here, there = app
    cache = f"type=registry,ref={PLACE}/cache:1"
    exported = f"{cache},mode=max,oci-mediatypes=true,image-manifest={str(form == 'manifest').lower()}"
    first, second = (BuildKit.start(each.node.host, Mirrors()) for each in app)
    first.build(layout, IMAGE, "--export-cache", exported)
    wait_until_pushed(there.node, "team/cache", "1")
    kept = OwnRepository(there.node, "team/cache").document("manifests/1")
    assert ("manifests" in kept) == (form == "index")

    said = second.build(layout, f"{PLACE}/app:2", "--import-cache", cache)

    assert "CACHED" in said, said
    wait_until_pushed(here.node, here.name, "2")
    assert here.document("manifests/2")["layers"] == there.document("manifests/1")["layers"]


def _wait_until_referred(repository: OwnRepository, subject: Digest, count: int) -> list[Mapping[str, Any]]:
    """Wait until so many manifests refer to `subject`; their descriptors."""
    found: list[Mapping[str, Any]] = []

    def _there() -> bool:
        found[:] = repository.document(f"referrers/{subject}")["manifests"]
        return len(found) >= count

    wait_until(_there, f"{count} manifests refer to {subject}")
    return found
