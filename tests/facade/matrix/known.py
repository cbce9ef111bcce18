"""The cells in which the node does not keep its promise yet, each with the reason."""

import pytest

from tests.facade.matrix.cells import CELLS, Cell

_GZIP = (
    "a body that upstream encodes with gzip although `identity` was asked for is refused, while Go's clients decode it:"
    " the manifest was answered, and Podman goes nowhere else for the blobs"
)
_RACE = (
    "an upstream that stalls is given up after stall_s + hurry_s, which is progress_s: clients are cut in the very"
    " moment in which the next source would go on; seen on a loaded machine alone, where a stranger misses look_s"
)
_MISMATCH = (
    "upstream's wrong Content-Length counts as if it gave no answer, so that a stranger's unverified bytes are"
    " streamed; seen on a loaded machine alone, where the stranger misses look_s"
)


def marked_cells() -> list[object]:
    """All cells; those that are known to fail are expected to."""
    return [pytest.param(cell, marks=_marks(cell)) for cell in CELLS]


def _marks(cell: Cell) -> tuple[pytest.MarkDecorator, ...]:
    if cell.runtime == "podman" and cell.upstream == "gzip-blobs" and cell.peer != "good" and not cell.is_believed_lie:
        return (pytest.mark.xfail(strict=True, reason=_GZIP),)
    if cell.runtime == "podman" and cell.upstream == "gzip" and cell.member and cell.peer in ("stalls", "cuts"):
        return (pytest.mark.xfail(strict=False, reason=f"{_GZIP}; where the peer gave the manifest in time"),)
    if str(cell) == "podman-stalls-good-stranger":
        return (pytest.mark.xfail(strict=False, reason=_RACE),)
    if str(cell) == "containerd-says-longer-lies-about-the-mapping-stranger":
        return (pytest.mark.xfail(strict=False, reason=_MISMATCH),)
    return ()
