"""`layermesh backup` and `restore`: what was pushed comes back, on a new node and after a deletion."""

import json
import tarfile
import urllib.request
from pathlib import Path

import pytest

from node.manifest import OCI_MANIFEST
from tests.facade.cli.started import Started, run, started
from tests.fakes.images import FakeImage, make_image

MIB = 1024 * 1024


@pytest.fixture
def image() -> FakeImage:
    return make_image("kept", (2 * MIB, 1000))


def _send(node: Started, method: str, path: str, data: bytes | None = None, media_type: str = "") -> bytes:
    headers = {"Content-Type": media_type} if media_type else {}
    url = f"http://{node.address('facade')}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
        body: bytes = answer.read()
        return body


def _push(node: Started, image: FakeImage, tag: str) -> None:
    for blob in image.blobs:
        _send(node, "POST", f"/v2/team/app/blobs/uploads/?digest={blob.digest}", blob.data, "application/octet-stream")
    _send(node, "PUT", f"/v2/team/app/manifests/{tag}", image.manifest.data, OCI_MANIFEST)


def _assert_pulled(node: Started, image: FakeImage, tag: str) -> None:
    assert _send(node, "GET", f"/v2/team/app/manifests/{tag}") == image.manifest.data
    for blob in image.blobs:
        assert _send(node, "GET", f"/v2/team/app/blobs/{blob.digest}") == blob.data


def test_a_new_node_has_what_another_backed_up(tmp_path: Path, image: FakeImage) -> None:
    file = tmp_path / "own.tar"
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        summary = node.ask("backup", str(file))
        assert summary["blobs"] == 1 + len(image.blobs)
    with started(tmp_path, tmp_path / "b") as node:
        assert node.ask("restore", str(file))["restored"] == summary["records"]
        _assert_pulled(node, image, "v1")
        assert node.ask("restore", str(file))["restored"] == 0


def test_what_was_deleted_comes_back(tmp_path: Path, image: FakeImage) -> None:
    file = tmp_path / "own.tar"
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        node.ask("backup", str(file))
        _send(node, "DELETE", f"/v2/team/app/manifests/{image.manifest.digest}")
        node.ask("restore", str(file))
        _assert_pulled(node, image, "v1")


def test_a_backup_that_is_cut_short_is_refused_and_changes_nothing(tmp_path: Path, image: FakeImage) -> None:
    file = tmp_path / "own.tar"
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        node.ask("backup", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with started(tmp_path, tmp_path / "b") as node:
        done = run("restore", str(file), "--admin", node.address("admin"), home=tmp_path)
        assert done.returncode == 2
        assert "own.tar" in done.stderr and done.stderr.count("\n") == 1
        assert node.ask("status")["blobs"] == 0


def test_a_backup_is_a_tar_archive_of_blobs_and_records(tmp_path: Path, image: FakeImage) -> None:
    file = tmp_path / "own.tar"
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        node.ask("backup", str(file))
    with tarfile.open(file) as archive:
        names = archive.getnames()
        records = archive.extractfile("records.json")
        assert records is not None
        kinds = sorted(line["kind"] for line in json.loads(records.read()))
    assert kinds == sorted(["tag", "manifest", *("blob" for _ in image.blobs)])
    assert set(names) == {
        "records.json",
        *(f"blobs/sha256/{blob.digest.hex}" for blob in (image.manifest, *image.blobs)),
    }
