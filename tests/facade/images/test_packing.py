"""Writing a CAR: whole or not there, gone on with where it stopped, and never with bytes of another DAG."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import IO

import pytest

from facade.images.contracts import Body, Files
from facade.images.packing import pack, partial_of
from facade.images.taking import Known, dag_of
from facade.images.tree import Path, Tree
from node.errors import FullError, InvalidError, MismatchError, UnreachableError
from node.unixfs import LEAF_BYTES
from tests.facade.images.layouts import Nothing
from tests.fakes.images import make_bytes
from tests.node.archives import read_archive

BIG = ("big",)
FILES = {
    BIG: make_bytes("big", 3 * LEAF_BYTES + 5),
    ("sub", "small"): b"small",
    ("sub", "zeros"): bytes(2 * LEAF_BYTES),
}
TREE = Tree({path: dag_of(data) for path, data in FILES.items()})


class Counting(Files):
    """Files that end after some bytes of each opening, and count what was read of the big one."""

    def __init__(self, files: dict[Path, bytes], most: int | None = None) -> None:
        self.read = 0
        self._files = files
        self._most = most

    @contextmanager
    def open(self, path: Path, start: int) -> Iterator[Body]:
        data = self._files[path] if self._most is None else self._files[path][: self._most]
        with Known({path: data}, Nothing()).open(path, start) as body:
            yield _Counted(body, self, path)


class _Counted:
    def __init__(self, body: Body, files: Counting, path: Path) -> None:
        self._body, self._files, self._path = body, files, path

    def readinto(self, buffer: memoryview, /) -> int | None:
        count = self._body.readinto(buffer[:100_000])
        self._files.read += (count or 0) if self._path == BIG else 0
        return count


def packed(file: FilePath, files: Files | None = None) -> int:
    told: list[int] = []
    size = pack(TREE, files or Counting(FILES), file, told.append)
    assert sum(told) == size == file.stat().st_size
    return size


def test_a_car_has_the_blocks_of_the_tree_in_order(tmp_path: FilePath) -> None:
    packed(tmp_path / "x.car")
    found = read_archive((tmp_path / "x.car").read_bytes())
    assert found.roots == (TREE.root,)
    assert found.cids == [block.cid for block in TREE.blocks()]
    assert not partial_of(tmp_path / "x.car").exists()


def test_a_write_that_was_cut_goes_on_where_it_stopped(tmp_path: FilePath) -> None:
    packed(tmp_path / "whole.car")
    with pytest.raises(UnreachableError, match="again to go on"):
        pack(TREE, Counting(FILES, 2 * LEAF_BYTES + 9), tmp_path / "x.car", lambda _: None)
    assert not (tmp_path / "x.car").exists()
    files = Counting(FILES)
    packed(tmp_path / "x.car", files)
    assert files.read == LEAF_BYTES + 5  # the third leaf, of which some came, and the last
    assert (tmp_path / "x.car").read_bytes() == (tmp_path / "whole.car").read_bytes()


@pytest.mark.parametrize("at", [0, 60, 300, LEAF_BYTES, 2 * LEAF_BYTES, -1])
def test_what_is_left_of_another_write_is_replaced(tmp_path: FilePath, at: int) -> None:
    packed(tmp_path / "whole.car")
    whole = (tmp_path / "whole.car").read_bytes()
    other = bytearray(whole + b"more")
    other[at] ^= 1
    partial_of(tmp_path / "x.car").write_bytes(other)
    packed(tmp_path / "x.car")
    assert (tmp_path / "x.car").read_bytes() == whole


def test_bytes_that_are_not_the_dags_are_refused(tmp_path: FilePath) -> None:
    files = Counting({**FILES, BIG: make_bytes("other", 3 * LEAF_BYTES + 5)})
    with pytest.raises(MismatchError, match="big"):
        pack(TREE, files, tmp_path / "x.car", lambda _: None)
    assert not (tmp_path / "x.car").exists()


def test_two_commands_do_not_write_one_file(tmp_path: FilePath) -> None:
    with partial_of(tmp_path / "x.car").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InvalidError, match="another command"):
            pack(TREE, Counting(FILES), tmp_path / "x.car", lambda _: None)


def test_a_file_that_another_command_just_finished_is_not_written_to(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, locked = tmp_path / "x.car", fcntl.flock

    def late(target: IO[bytes], how: int) -> None:
        monkeypatch.undo()
        partial_of(file).replace(file)  # between our open and our lock
        locked(target, how)

    partial_of(file).write_bytes(b"what another command wrote")
    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(InvalidError, match="another command"):
        pack(TREE, Counting(FILES), file, lambda _: None)
    assert file.read_bytes() == b"what another command wrote"


@pytest.mark.parametrize("plant", [os.symlink, os.link])
def test_nothing_is_written_by_way_of_a_link_that_somebody_put_there(
    tmp_path: FilePath, plant: Callable[[FilePath, FilePath], None]
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "x.car"
    victim.write_bytes(b"mine")
    plant(victim, partial_of(file))
    with pytest.raises((FullError, InvalidError), match=r"x\.car"):
        pack(TREE, Counting(FILES), file, lambda _: None)
    assert victim.read_bytes() == b"mine" and not file.exists()


def test_a_fifo_is_not_waited_for(tmp_path: FilePath) -> None:
    os.mkfifo(partial_of(tmp_path / "x.car"))
    with pytest.raises((FullError, InvalidError), match=r"x\.car"):
        pack(TREE, Counting(FILES), tmp_path / "x.car", lambda _: None)


def test_a_disk_that_is_full_is_said_and_what_was_written_stays(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.writev

    def full(descriptor: int, parts: list[bytes], /) -> int:
        if os.fstat(descriptor).st_size > LEAF_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(descriptor, [bytes(part)[:1000] for part in parts])  # and a little at a time before

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(FullError, match=r"x\.car: .*No space left"):
        pack(TREE, Counting(FILES), tmp_path / "x.car", lambda _: None)
    assert not (tmp_path / "x.car").exists()
    monkeypatch.undo()
    packed(tmp_path / "x.car")


def test_a_folder_that_is_not_there_is_said(tmp_path: FilePath) -> None:
    with pytest.raises(FullError, match="No such file"):
        pack(TREE, Counting(FILES), tmp_path / "no" / "x.car", lambda _: None)
