"""The added time of every cell as a table."""

import statistics
from collections.abc import Mapping

from tests.facade.matrix.cells import CELLS, RUNTIMES, Cell, Result
from tests.facade.matrix.upstreams import UPSTREAMS

_COLUMNS = tuple(dict.fromkeys(cell.column for cell in CELLS))
_SHORT = {"lies-about-bytes": "bytes", "lies-about-the-mapping": "mapping", "-stranger": " s", "-member": " m"}


def table(results: Mapping[Cell, Result], scale: float) -> str:
    """One table for each runtime: what the node added to a direct pull, in seconds; in brackets where it failed."""
    lines = [
        f"Seconds that the node added to a direct pull, with all waits {scale:g} times as long as they are by default.",
        "s: the peer is a stranger, m: a member. (1.23): failed after 1.23 s, as the direct pull did. !: worse.",
    ]
    by_name = {str(cell): result for cell, result in results.items()}
    for runtime in RUNTIMES:
        rows = [
            [upstream, *(_entry(by_name.get(f"{runtime}-{upstream}-{column}")) for column in _COLUMNS)]
            for upstream in UPSTREAMS
        ]
        lines += ["", *_aligned([[runtime, *(_heading(column) for column in _COLUMNS)], *rows])]
    return "\n".join([*lines, "", *summary(results)]) + "\n"


def summary(results: Mapping[Cell, Result]) -> list[str]:
    """The median, and the worst cells."""
    added = {cell: _added(result) for cell, result in results.items() if result.through.ok and result.direct.ok}
    if not added:
        return []
    worst = sorted(added, key=lambda cell: added[cell], reverse=True)[:5]
    median = statistics.median(added.values())
    named = ", ".join(f"{added[cell]:.2f} s {cell}" for cell in worst)
    return [f"{len(results)} cells; added where both succeed: median {median:.3f} s; most: {named}"]


def _added(result: Result) -> float:
    return result.through.seconds - result.direct.seconds


def _entry(result: Result | None) -> str:
    if result is None:
        return ""
    if result.through.ok:
        return f"{_added(result):+.2f}" if result.direct.ok else f"{result.through.seconds:.2f}*"
    return f"({result.through.seconds:.2f})" + ("!" if result.direct.ok else "")


def _heading(column: str) -> str:
    for long, short in _SHORT.items():
        column = column.replace(long, short)
    return column


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(each.rjust(width) for each, width in zip(row, widths, strict=True)) for row in rows]
