"""The added time of every cell as a table."""

import statistics
from collections.abc import Mapping

from tests.facade.matrix.cells import CELLS, MOST_S, RUNTIMES, Cell, Result
from tests.facade.matrix.networks import NETWORKS
from tests.facade.matrix.upstreams import UPSTREAMS

_COLUMNS = tuple(dict.fromkeys(cell.column for cell in CELLS if cell.network == "none"))
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
    rows = [
        [network, *(_entry(by_name.get(f"{runtime}-fine-{network}")) for runtime in RUNTIMES)] for network in NETWORKS
    ]
    lines += ["", *_aligned([["network", *RUNTIMES], *rows])]
    return "\n".join([*lines, "", *summary(results, scale)]) + "\n"


def summary(results: Mapping[Cell, Result], scale: float) -> list[str]:
    """What was added where no source fails and where one does, the cells that cost too much, and the longest waits."""
    both = {cell: result for cell, result in results.items() if result.through.ok and result.direct.ok}
    well = {cell: _added(result) for cell, result in both.items() if cell.is_well}
    ill = {cell: _added(result) for cell, result in both.items() if not cell.is_well}
    lost = {cell: _added(result) for cell, result in results.items() if not result.through.ok and not result.direct.ok}
    waits = {
        "for headers": {cell: result.through.observed.headers_s for cell, result in results.items()},
        "within a body": {cell: result.through.observed.gap_s for cell, result in results.items()},
        "for the next pull, when all was well again": {cell: each.again.seconds for cell, each in results.items()},
    }
    return [
        f"{len(results)} cells; seconds added where both pulls succeed:",
        *_class("no source fails", well, MOST_S * scale),
        *_class("a source fails", ill, MOST_S * scale),
        "seconds added where neither does:",
        *_class("until it fails", lost, MOST_S * scale),
        *(f"longest wait {what}: {_worst(waited)}" for what, waited in waits.items() if waited),
        *_hurried(results),
    ]


def _hurried(results: Mapping[Cell, Result]) -> list[str]:
    cells = [f"  {cell}: {'; '.join(result.hurried)}" for cell, result in results.items() if result.hurried]
    return ["failed with these waits, and was run again with those that people have:", *cells] if cells else []


def _class(name: str, added: Mapping[Cell, float], most_s: float) -> list[str]:
    if not added:
        return []
    over = sorted((cell for cell in added if added[cell] > most_s), key=lambda cell: -added[cell])
    median = statistics.median(added.values())
    said = f"  {name}: {len(added)} cells, median {median:.3f}, worst {_worst(added)}; {len(over)} above {most_s:g} s"
    return [said, *(f"    {added[cell]:.2f} {cell}" for cell in over)]


def _worst(seconds: Mapping[Cell, float]) -> str:
    worst = max(seconds, key=lambda cell: seconds[cell])
    return f"{seconds[worst]:.2f} {worst}"


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
