"""`layermesh backup` and `restore`: what was pushed comes back, on a new node and after a deletion."""

import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from node.digest import Digest
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


def _file(data: Path, digest: Digest) -> Path:
    return data / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


def _lose(data: Path, digest: Digest) -> None:
    _file(data, digest).unlink()


def _rot(data: Path, digest: Digest) -> None:
    """Other bytes, as a disk may give them: nothing tells but their hash."""
    path = _file(data, digest)
    seen = path.stat()
    with path.open("r+b") as file:
        file.seek(seen.st_size - 1)
        file.write(b"?")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("damage", [_lose, _rot])
def test_a_blob_that_nobody_gives_is_named_and_the_rest_is_backed_up(
    tmp_path: Path, image: FakeImage, damage: Callable[[Path, Digest], None]
) -> None:
    file, layer = tmp_path / "own.tar", image.layers[0]
    other = make_image("whole", (5000,))
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        _push(node, other, "v2")
        damage(tmp_path / "a", layer.digest)
        done = run("backup", str(file), "--json", "--admin", node.address("admin"), home=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1 and "1 of 7 blobs are missing" in done.stderr
        summary = json.loads(done.stdout)
        assert [each["digest"] for each in summary["missing"]] == [str(layer.digest)]
        assert summary["blobs"] == 1 + len(image.blobs) + len(other.blobs)
        shown = run("backup", str(file), "--admin", node.address("admin"), home=tmp_path)
        assert (shown.returncode, f"missing: {layer.digest}: " in shown.stdout) == (1, True)
    with started(tmp_path, tmp_path / "b") as node:
        answer = node.ask("restore", str(file))
        assert (answer["missing"], answer["restored"]) == ([str(layer.digest)], summary["records"] - 1)
        _assert_pulled(node, other, "v2")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            _send(node, "GET", "/v2/team/app/manifests/v1")
        _push(node, image, "v1")
        _assert_pulled(node, image, "v1")


def test_a_manifest_that_nobody_gives_takes_its_tags_with_it(tmp_path: Path, image: FakeImage) -> None:
    file = tmp_path / "own.tar"
    with started(tmp_path, tmp_path / "a") as node:
        _push(node, image, "v1")
        _lose(tmp_path / "a", image.manifest.digest)
        assert run("backup", str(file), "--admin", node.address("admin"), home=tmp_path).returncode == 1
    with started(tmp_path, tmp_path / "b") as node:
        assert node.ask("restore", str(file))["restored"] == len(image.blobs)
        assert json.loads(_send(node, "GET", "/v2/team/app/tags/list"))["tags"] == []
