"""What a layout brings, and by which names: whole images alone, in CARs and in folders."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path as FilePath

import pytest

from facade.images.bringing import Brought, brought_images
from facade.images.carfile import open_car
from facade.images.contracts import Layout
from facade.images.folder import open_folder_layout
from facade.images.tree import Path
from node.digest import Algorithm, Digest
from node.errors import InvalidError, MismatchError, NotFoundError
from node.layout import LAYOUT, blob_path
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.platforms import Platform
from tests.facade.images.layouts import attested, by_umoci, index_json, layout_of, manifest_naming, to_car, to_folder
from tests.fakes.images import Flavour, all_blobs, make_image, make_index

IMAGE = make_image("brought", (1000, 10))
INDEX = make_index("several", (1000,))
Opened = Callable[[dict[Path, bytes]], AbstractContextManager[Layout]]


@pytest.fixture(params=["car", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: FilePath) -> Iterator[Opened]:
    """Opens a layout of these files, in either form."""

    def open_car_of(files: dict[Path, bytes]) -> AbstractContextManager[Layout]:
        to_car(files, tmp_path / "x.car")
        return open_car(tmp_path / "x.car")

    def open_folder_of(files: dict[Path, bytes]) -> AbstractContextManager[Layout]:
        to_folder(files, tmp_path / "x")
        return open_folder_layout(tmp_path / "x")

    yield open_car_of if request.param == "car" else open_folder_of


def brought(opened: Opened, files: dict[Path, bytes], name: str | None = None, platform: str = "") -> list[Brought]:
    with opened(files) as layout:
        return brought_images(layout, name, Platform.parse(platform) if platform else None)


def test_an_image_is_brought_with_all_it_names(opened: Opened) -> None:
    (found,) = brought(opened, layout_of(IMAGE))
    assert (found.name, found.root.digest, found.root.media_type) == (
        "team/app:v1",
        IMAGE.manifest.digest,
        OCI_MANIFEST,
    )
    assert found.sizes == {blob.digest: blob.size for blob in all_blobs(IMAGE)}


def test_an_image_for_several_platforms_is_brought_whole(opened: Opened) -> None:
    (found,) = brought(opened, layout_of(INDEX))
    assert found.root.media_type == OCI_INDEX
    assert found.sizes == {blob.digest: blob.size for blob in all_blobs(INDEX)}


def test_one_platform_is_brought_though_the_others_are_not_there(opened: Opened) -> None:
    files, (amd64, arm64) = layout_of(INDEX), INDEX.images
    for blob in all_blobs(arm64):
        del files[blob_path(blob.digest)]
    with pytest.raises(InvalidError, match=f"{arm64.manifest.digest}: a manifest that is not there.*--platform"):
        brought(opened, files)
    (found,) = brought(opened, files, platform="linux/amd64")
    assert found.sizes == {blob.digest: blob.size for blob in all_blobs(amd64)}
    with pytest.raises(NotFoundError, match="there are linux/amd64, linux/arm64"):
        brought(opened, files, platform="linux/s390x")


def test_images_of_other_media_types_and_algorithms_are_brought(opened: Opened) -> None:
    image = make_image("docker", (1000,), flavour=Flavour.DOCKER, algorithm=Algorithm.SHA512)
    (found,) = brought(opened, layout_of(image))
    assert found.sizes == {blob.digest: blob.size for blob in all_blobs(image)}


@pytest.mark.parametrize(
    ("written", "given", "name"),
    [
        ("docker.io/library/app:v1", None, "docker.io/library/app:v1"),
        ("docker.io/library/app:v1", "team/app:v2", "team/app:v2"),
        ("docker.io/library/app:v1", "team/app", "team/app:v1"),
        ("v1", "127.0.0.1:5050/team/app", "127.0.0.1:5050/team/app:v1"),
        ("v1", "team/app:v2", "team/app:v2"),
        (None, "team/app", "team/app:latest"),
    ],
)
def test_an_image_is_called_what_the_layout_or_the_operator_says(
    opened: Opened, written: str | None, given: str | None, name: str
) -> None:
    (found,) = brought(opened, layout_of(IMAGE, name=written), given)
    assert found.name == name


@pytest.mark.parametrize(("written", "known"), [("v1", "the tag 'v1'"), (None, "no name")])
def test_an_image_that_nobody_names_is_refused(opened: Opened, written: str | None, known: str) -> None:
    with pytest.raises(InvalidError, match=f"gives this image {known}: name it with --as"):
        brought(opened, layout_of(IMAGE, name=written))


def test_one_name_is_not_for_two_images(opened: Opened) -> None:
    files = layout_of(IMAGE, INDEX)
    with pytest.raises(InvalidError, match="there are 2 images"):
        brought(opened, files, "team/app:v2")
    with pytest.raises(InvalidError, match="other:v1: the layout has two images"):
        brought(opened, files, "other")


def test_an_image_of_buildx_is_brought_with_its_attestations(opened: Opened) -> None:
    files = attested(*INDEX.images)
    (found,) = brought(opened, files)
    assert (found.name, found.root.media_type) == ("docker.io/library/app:v1", OCI_INDEX)
    assert {blob_path(digest): size for digest, size in found.sizes.items()} == {
        path: len(data) for path, data in files.items() if path[0] == "blobs"
    }
    for platform, image in zip(("linux/amd64", "linux/arm64"), INDEX.images, strict=True):
        (found,) = brought(opened, files, platform=platform)
        assert found.sizes == {blob.digest: blob.size for blob in all_blobs(image)}


def test_attestations_are_no_platform_that_one_could_take(opened: Opened) -> None:
    with pytest.raises(NotFoundError, match=r"there are linux/amd64, linux/arm64$"):
        brought(opened, attested(*INDEX.images), platform="linux/s390x")


def test_images_of_umoci_are_brought_by_their_tags(opened: Opened) -> None:
    files = by_umoci(IMAGE)
    with pytest.raises(InvalidError, match="gives this image the tag 'v1': name it with --as"):
        brought(opened, files)
    empty, whole = brought(opened, files, "team/app")
    assert (empty.name, whole.name) == ("team/app:v1", "team/app:v2")
    assert set(empty.sizes) == {empty.root.digest, IMAGE.config.digest}
    assert set(whole.sizes) == {whole.root.digest, *(blob.digest for blob in IMAGE.blobs)}


def test_images_keep_their_tags_in_a_repository_that_the_operator_names(opened: Opened) -> None:
    files = layout_of(IMAGE, INDEX)
    names = ("docker.io/library/a:v1", "docker.io/library/b:v2")
    described = (IMAGE.manifest.described, INDEX.manifest.described)
    entries = [
        each | {"annotations": {"org.opencontainers.image.ref.name": name}}
        for each, name in zip(described, names, strict=True)
    ]
    files["index.json",] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    assert [each.name for each in brought(opened, files)] == list(names)
    assert [each.name for each in brought(opened, files, "other")] == ["other:v1", "other:v2"]


def test_a_digest_is_no_name(opened: Opened) -> None:
    with pytest.raises(InvalidError, match="no digest"):
        brought(opened, layout_of(IMAGE), f"team/app@{IMAGE.manifest.digest}")


def without(digest: Digest) -> dict[Path, bytes]:
    files = layout_of(IMAGE)
    del files[blob_path(digest)]
    return files


def test_a_blob_that_is_not_there_is_refused_before_anything_is_read(opened: Opened) -> None:
    layer = IMAGE.layers[1]
    with pytest.raises(InvalidError, match=f"{layer.digest}: team/app:v1 needs it, but it is not there"):
        brought(opened, without(layer.digest))


def test_an_index_that_names_what_is_not_there_is_refused(opened: Opened) -> None:
    with pytest.raises(InvalidError, match="a manifest that is not there"):
        brought(opened, without(IMAGE.manifest.digest))


def test_a_manifest_of_other_bytes_is_refused(opened: Opened) -> None:
    files = layout_of(IMAGE)
    files[blob_path(IMAGE.manifest.digest)] = IMAGE.manifest.data.replace(b"amd64", b"arm64").replace(b":2", b":3")
    with pytest.raises(MismatchError, match="hash to something else"):
        brought(opened, files)


def _listing(data: bytes, size: int | None = None) -> dict[Path, bytes]:
    """A layout whose only image has this manifest."""
    digest = Digest.of(data)
    entry = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": len(data) if size is None else size}
    index = {"schemaVersion": 2, "manifests": [entry | {"annotations": {"org.opencontainers.image.ref.name": "a:b"}}]}
    return {blob_path(digest): data, ("oci-layout",): LAYOUT, ("index.json",): json.dumps(index).encode()}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "oci-layout"),
        ({("oci-layout",): LAYOUT}, "index.json"),
        ({("oci-layout",): b"x" * 5000, ("index.json",): index_json(IMAGE)}, "oci-layout|goes on behind"),
        ({("oci-layout",): LAYOUT, ("index.json",): b" " * (5 << 20)}, "index.json|goes on behind"),
        (_listing(b"{}"), "manifest"),
        (_listing(b"[" * 100_000), "manifest"),
        (_listing(manifest_naming(Digest.of(b"x"), -1)), "size -1"),
        (_listing(manifest_naming(Digest.of(b"x"), 1)), "is not there"),
    ],
)
def test_what_is_no_layout_is_refused_with_a_reason(opened: Opened, files: dict[Path, bytes], reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        brought(opened, {("pad",): b"", **files})


def test_an_index_that_names_itself_among_others_ends(opened: Opened) -> None:
    """No hash names itself; but two indexes may name the same ones over and over."""
    leaf = IMAGE.manifest.described
    level = [leaf]
    files = layout_of(IMAGE)
    for _ in range(30):
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": level * 50}).encode()
        digest = Digest.of(data)
        files[blob_path(digest)] = data
        level = [{"mediaType": OCI_INDEX, "digest": str(digest), "size": len(data)}]
    files["index.json",] = json.dumps({"schemaVersion": 2, "manifests": level}).encode()
    (found,) = brought(opened, files, "team/app:v1")
    assert len(found.sizes) == 30 + len(list(all_blobs(IMAGE)))


def test_more_manifests_than_any_image_has_are_refused(opened: Opened) -> None:
    entries, files = [], {}
    for at in range(1001):
        data = manifest_naming(Digest.of(b"x"), 1).replace(b"}", b"}" + b" " * at, 1)
        files[blob_path(Digest.of(data))] = data
        entries.append({"mediaType": OCI_MANIFEST, "digest": str(Digest.of(data)), "size": len(data)})
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    index = {"mediaType": OCI_INDEX, "digest": str(Digest.of(data)), "size": len(data)}
    files |= {blob_path(Digest.of(data)): data, ("oci-layout",): LAYOUT}
    files["index.json",] = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    with pytest.raises(InvalidError, match="at most 1000 manifests"):
        brought(opened, files, "team/app:v1")
