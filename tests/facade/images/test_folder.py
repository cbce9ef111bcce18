"""Layouts in folders: plain files alone are read, and what is written appears when it is whole."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest

from facade.images.contracts import Body, Files
from facade.images.folder import alone_in, open_folder_layout, unpack
from facade.images.packing import partial_of
from facade.images.taking import Known
from node.digest import Digest
from node.errors import FullError, InvalidError, MismatchError, UnreachableError
from node.layout import blob_path
from tests.facade.images.layouts import Nothing, index_json, layout_of, to_folder
from tests.fakes.images import all_blobs, make_image

IMAGE = make_image("folder", (1_500_000, 100))
FILES = layout_of(IMAGE)
SIZES = {blob.digest: blob.size for blob in all_blobs(IMAGE)}
LAYER = IMAGE.layers[0]


@pytest.fixture
def folder(tmp_path: FilePath) -> FilePath:
    to_folder(FILES, tmp_path / "layout")
    return tmp_path / "layout"


def written(folder: FilePath) -> dict[tuple[str, ...], bytes]:
    return {path.relative_to(folder).parts: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(folder: FilePath, files: Files | None = None) -> None:
    told: list[int] = []
    with alone_in(folder):
        unpack(folder, SIZES, files or Known(FILES, Nothing()), FILES["index.json",], told.append)
    assert sum(told) == sum(SIZES.values())


def test_what_others_wrote_is_read(folder: FilePath) -> None:
    with open_folder_layout(folder) as layout:
        for path, data in FILES.items():
            assert layout.small(path, 4 << 20) == data
        assert layout.has(LAYER.digest) and not layout.has(Digest.of(b"another"))
        assert b"".join(layout.blob(LAYER.digest, LAYER.size)) == LAYER.data


def test_what_was_written_is_a_layout(tmp_path: FilePath) -> None:
    unpacked(tmp_path / "new")
    assert written(tmp_path / "new") == FILES


def test_a_blob_that_is_right_stays_and_one_that_is_not_is_written_again(folder: FilePath) -> None:
    config = folder.joinpath(*blob_path(IMAGE.config.digest))
    layer = folder.joinpath(*blob_path(LAYER.digest))
    layer.write_bytes(bytes(LAYER.size))
    before = config.stat().st_ino
    unpacked(folder)
    assert config.stat().st_ino == before
    assert written(folder) == FILES


def test_a_folder_whose_blobs_do_not_come_has_no_index(tmp_path: FilePath) -> None:
    with pytest.raises(MismatchError, match="other bytes"):
        unpacked(tmp_path / "new", Known({**FILES, blob_path(LAYER.digest): bytes(LAYER.size)}, Nothing()))
    assert not (tmp_path / "new" / "index.json").exists()
    assert not list((tmp_path / "new").rglob("*.partial"))
    unpacked(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "index.json").read_bytes()) == json.loads(index_json(IMAGE))


class Counting(Known):
    """Files that count what is read of them, and end after `most` bytes of each opening."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__(FILES, Nothing())
        self.most = most
        self.opened: list[tuple[str, int]] = []

    @contextmanager
    def open(self, path: tuple[str, ...], start: int) -> Iterator[Body]:
        self.opened.append((path[-1], start))
        stop = None if self.most is None else start + self.most
        with Known({path: FILES[path][:stop]}, Nothing()).open(path, start) as body:
            yield body


def test_a_blob_that_was_cut_goes_on_where_it_stopped(tmp_path: FilePath) -> None:
    folder = tmp_path / "new"
    with pytest.raises(UnreachableError, match="again to go on"):
        unpacked(folder, Counting(most=700_000))
    files = Counting()
    unpacked(folder, files)
    assert (LAYER.digest.hex, 700_000) in files.opened
    assert written(folder) == FILES


@pytest.mark.parametrize("left", [b"wrong", bytes(LAYER.size), LAYER.data + b"more", LAYER.data])
def test_what_was_left_of_a_blob_counts_only_where_it_is_right(tmp_path: FilePath, left: bytes) -> None:
    blob = tmp_path.joinpath("new", *blob_path(LAYER.digest))
    blob.parent.mkdir(parents=True)
    partial_of(blob).write_bytes(left)
    files = Counting()
    unpacked(tmp_path / "new", files)
    assert written(tmp_path / "new") == FILES
    assert ((LAYER.digest.hex, 0) in files.opened) is not left.startswith(LAYER.data)


def test_what_another_export_left_there_stays_for_it(folder: FilePath) -> None:
    left = partial_of(folder.joinpath(*blob_path(Digest.of(b"another"))))
    left.write_bytes(b"ano")
    unpacked(folder)
    assert left.read_bytes() == b"ano"


def test_what_somebody_else_put_where_a_blob_is_begun_is_not_written_to(folder: FilePath, tmp_path: FilePath) -> None:
    layer, victim = folder.joinpath(*blob_path(LAYER.digest)), tmp_path / "victim"
    victim.write_bytes(b"mine")
    layer.unlink()
    for put in (os.link, os.symlink):
        put(victim, partial_of(layer))
        with pytest.raises((InvalidError, FullError), match=partial_of(layer).name):
            unpacked(folder)
        assert victim.read_bytes() == b"mine"
        partial_of(layer).unlink()


def test_a_blob_is_not_written_through_a_link(folder: FilePath, tmp_path: FilePath) -> None:
    layer, victim = folder.joinpath(*blob_path(LAYER.digest)), tmp_path / "victim"
    victim.write_bytes(b"mine")
    layer.unlink()
    layer.symlink_to(victim)
    unpacked(folder)
    assert victim.read_bytes() == b"mine" and not layer.is_symlink()


def test_blobs_are_not_written_to_a_folder_that_a_link_leads_to(folder: FilePath, tmp_path: FilePath) -> None:
    _link_folder(folder)
    folder.joinpath(*blob_path(LAYER.digest)).unlink()
    with pytest.raises(InvalidError, match="blobs: a symbolic link"):
        unpacked(folder)


def _link_file(folder: FilePath) -> None:
    path = folder.joinpath(*blob_path(LAYER.digest))
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def _link_folder(folder: FilePath) -> None:
    (folder / "blobs").rename(folder / "elsewhere")
    (folder / "blobs").symlink_to(folder / "elsewhere")


def _pipe(folder: FilePath) -> None:
    path = folder.joinpath(*blob_path(LAYER.digest))
    path.unlink()
    os.mkfifo(path)


def _folder(folder: FilePath) -> None:
    path = folder.joinpath(*blob_path(LAYER.digest))
    path.unlink()
    path.mkdir()


def _shorter(folder: FilePath) -> None:
    folder.joinpath(*blob_path(LAYER.digest)).write_bytes(b"short")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_link_file, "symbolic links are not followed"),
        (_link_folder, "symbolic links are not followed"),
        (_pipe, "no plain file"),
        (_folder, "no plain file"),
        (_shorter, "5 bytes, not"),
    ],
)
def test_what_is_no_plain_file_of_its_size_is_refused(
    folder: FilePath, change: Callable[[FilePath], None], reason: str
) -> None:
    change(folder)
    with open_folder_layout(folder) as layout, pytest.raises(InvalidError, match=reason):
        list(layout.blob(LAYER.digest, LAYER.size))


def test_a_small_file_that_is_large_is_not_read(folder: FilePath) -> None:
    with open_folder_layout(folder) as layout, pytest.raises(InvalidError, match="at most 9"):
        layout.small(("index.json",), 9)


def test_a_folder_that_is_not_there_is_said(tmp_path: FilePath) -> None:
    with pytest.raises(InvalidError, match="No such file"), open_folder_layout(tmp_path / "no"):
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: FilePath) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FullError, match="cannot be written"):
        unpacked(tmp_path / "file" / "x")


def test_two_commands_do_not_write_to_one_folder(tmp_path: FilePath) -> None:
    with alone_in(tmp_path / "new"):
        with pytest.raises(InvalidError, match="another command writes it now"):
            unpacked(tmp_path / "new")
        assert not list((tmp_path / "new").iterdir())
    unpacked(tmp_path / "new")
