"""Archives that somebody changed: what is read of them is right, or they are refused, in bounded time."""

import tempfile
from pathlib import Path as FilePath

from hypothesis import given, settings
from hypothesis import strategies as st

from facade.images.bringing import brought_images
from facade.images.carfile import open_car
from node.digest import Digest
from node.errors import InvalidError, MismatchError, NotFoundError
from tests.facade.images.layouts import layout_of, to_car
from tests.fakes.images import all_blobs, make_image

IMAGE = make_image("fuzzed", (3000, 10))
SIZES = {blob.digest: blob.size for blob in all_blobs(IMAGE)}


def written() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        to_car(layout_of(IMAGE), FilePath(folder) / "x.car")
        return (FilePath(folder) / "x.car").read_bytes()


RIGHT = written()


def read(data: bytes) -> dict[Digest, bytes]:
    """All blobs of the images that an archive brings, as import sends them: the node drops those that hash wrong."""
    with tempfile.NamedTemporaryFile() as file:
        FilePath(file.name).write_bytes(data)
        with open_car(FilePath(file.name)) as layout:
            found = brought_images(layout)
            return {
                digest: b"".join(layout.blob(digest, size)) for image in found for digest, size in image.sizes.items()
            }


def test_what_nobody_changed_is_read() -> None:
    assert {digest: len(data) for digest, data in read(RIGHT).items()} == SIZES


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(RIGHT) - 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    end=st.integers(0, len(RIGHT)) | st.just(len(RIGHT)),
)
def test_what_somebody_changed_is_refused_or_was_not_needed(changes: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(RIGHT)
    for at, value in changes:
        data[at : at + len(value)] = value
    try:
        blobs = read(bytes(data[:end]))
    except (InvalidError, MismatchError, NotFoundError):
        return
    assert blobs == read(RIGHT)


@settings(max_examples=200)
@given(data=st.binary(max_size=400))
def test_whatever_follows_a_header_is_refused(data: bytes) -> None:
    try:
        read(RIGHT[:59] + data)
    except (InvalidError, MismatchError, NotFoundError):
        return
    raise AssertionError("there is no image in it")
