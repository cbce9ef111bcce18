"""The results, for people and for programs."""

import json
import os
import platform
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench.rows import Aim, Disturbed, Failed, Missing, Outcome, Row, middle

_LIBRARIES: Final = ("aiohttp", "aiosqlite", "layermesh", "msgpack", "msgspec", "zeroconf")
_TOLERABLE_CORES: Final = 0.2
_SIGNS: Final = {
    Aim.RATIO_AT_LEAST: "≥ {:.2f}x",
    Aim.RATIO_AT_MOST: "≤ {:.2f}x",
    Aim.ABOVE_BY_AT_MOST: "≤ +{:.1f}",
    Aim.AT_LEAST: "≥ {:.1f}",
    Aim.AT_MOST: "≤ {:.1f}",
}


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print one table."""
    table = Table(title=f"layermesh bench: medians of alternating runs; TCP: {_congestion_control()}")
    for title in ("", "layermesh", "unit", "peer", "peer's", "result", "target", "met"):
        table.add_column(title, justify="right" if title in ("layermesh", "peer's", "result", "target") else "left")
    before = ""
    for outcome in outcomes:
        if isinstance(outcome, Disturbed):
            continue
        if outcome.name != before and before:
            table.add_section()
        before = outcome.name
        table.add_row(*_cells(outcome))
    console.print(table)
    for note in dict.fromkeys(f"{row.name}: {row.note}" for row in outcomes if isinstance(row, Row) and row.note):
        console.print(note)
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            console.print(f"{outcome.name} failed: {outcome.reason}", markup=False)
        if isinstance(outcome, Disturbed) and outcome.cores > _TOLERABLE_CORES:
            console.print(f"{outcome.name}: other processes kept {outcome.cores:.2f} cores busy; run it again")


def _cells(outcome: Row | Missing | Failed) -> tuple[str, ...]:
    if isinstance(outcome, Missing):
        return (f"{outcome.name}: {outcome.peer} is missing", "", "", outcome.peer, "", "missing", "", outcome.provides)
    if isinstance(outcome, Failed):
        return (f"{outcome.name}: failed, see below", "", "", "", "", "failed", "", "failed")
    met = {None: "", True: "yes", False: "no"}[outcome.met]
    target = "" if outcome.bound is None else _SIGNS[outcome.compare].format(outcome.bound)
    numbers = (_number(middle(outcome.ours)), outcome.unit, outcome.peer, _number(middle(outcome.theirs)))
    return (outcome.what, *numbers, _result(outcome), target, met)


def _result(row: Row) -> str:
    if row.compare in (Aim.RATIO_AT_LEAST, Aim.RATIO_AT_MOST):
        return f"{row.result:.2f}x"
    return f"{row.result:+.2f}" if row.compare is Aim.ABOVE_BY_AT_MOST else _number(row.result)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def write(outcomes: Sequence[Outcome], path: Path, started: datetime) -> None:
    """Write everything, raw samples included, as JSON."""
    now = datetime.now(UTC)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds(), 1),
        "machine": _machine(),
        "results": [_fields(outcome) for outcome in outcomes],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "python": platform.python_version(),
        "tcp_congestion_control": _congestion_control(),
        **{library: version(library) for library in _LIBRARIES},
    }


def _congestion_control() -> str:
    """The machine's: where it paces (BBR), that is what limits a server on loopback."""
    with socket.socket() as plain:
        return plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def _fields(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Missing):
        return {"name": outcome.name, "missing": outcome.peer, "provides": outcome.provides}
    if isinstance(outcome, Failed):
        return {"name": outcome.name, "failed": outcome.reason}
    if isinstance(outcome, Disturbed):
        return {"name": outcome.name, "cores_busy_with_others": round(outcome.cores, 2)}
    return {
        "name": outcome.name,
        "what": outcome.what,
        "unit": outcome.unit,
        "ours": {"median": middle(outcome.ours), "samples": outcome.ours},
        "peer": outcome.peer or None,
        "theirs": {"median": middle(outcome.theirs), "samples": outcome.theirs},
        "compare": outcome.compare,
        "result": outcome.result,
        "bound": outcome.bound,
        "met": outcome.met,
        "note": outcome.note or None,
    }
