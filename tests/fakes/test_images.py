"""The images that other tests pull are real, and the same on every run."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from node.digest import Algorithm, Digest
from node.manifest import Role, parse_manifest
from tests.fakes.images import FakeImage, Flavour, all_blobs, make_bytes, make_image, make_index, write_layout


def unpacked(image: FakeImage) -> dict[str, bytes]:
    content = {}
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.data))) as archive:
            for member in archive:
                if member.isfile() and (opened := archive.extractfile(member)):
                    content[member.name] = opened.read()
    return content


@pytest.mark.parametrize("flavour", list(Flavour))
def test_a_manifest_names_the_blobs_of_its_image(flavour: Flavour) -> None:
    image = make_image("seed", (1000, 2000), flavour=flavour)
    manifest = parse_manifest(image.manifest.data, image.manifest.media_type)
    assert manifest.digest == image.manifest.digest
    assert [(name.digest, name.size) for name in manifest.names] == [(blob.digest, blob.size) for blob in image.blobs]
    assert [name.role for name in manifest.names] == [Role.CONFIG, Role.LAYER, Role.LAYER]


def test_an_image_unpacks_to_its_files() -> None:
    image = make_image("seed", (1000, 2000))
    assert unpacked(image) == image.files


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    assert make_index("one") == make_index("one")
    assert make_index("one").manifest.digest != make_index("two").manifest.digest
    assert len(make_bytes("one", 12345)) == 12345


def test_an_index_names_an_image_for_each_platform() -> None:
    index = make_index("seed", (10,), architectures=("amd64", "arm64"), flavour=Flavour.DOCKER)
    manifest = parse_manifest(index.manifest.data, index.manifest.media_type)
    assert manifest.is_index
    assert [name.digest for name in manifest.names] == [image.manifest.digest for image in index.images]
    assert not {layer.digest for layer in index.images[0].layers} & {layer.digest for layer in index.images[1].layers}


def test_layers_can_be_named_by_sha512() -> None:
    image = make_image("seed", (10,), algorithm=Algorithm.SHA512)
    assert {blob.digest.algorithm for blob in image.blobs} == {Algorithm.SHA512}
    assert image.manifest.digest.algorithm is Algorithm.SHA256


def test_a_layout_holds_every_blob_under_its_digest(tmp_path: Path) -> None:
    index = make_index("seed", (10,))
    write_layout(tmp_path, {"multi": index, "one": index.images[0]})
    for blob in all_blobs(index):
        assert Digest.of((tmp_path / "blobs" / "sha256" / blob.digest.hex).read_bytes()) == blob.digest
    assert b'"org.opencontainers.image.ref.name":"one"' in (tmp_path / "index.json").read_bytes()
