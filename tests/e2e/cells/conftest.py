"""How long each cell took, shown at the end."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.e2e.cells.scene import Played
from tests.e2e.cells.table import Cell

_LINES: Final = pytest.StashKey[list[str]]()
Record = Callable[[Cell, Played], None]


@pytest.fixture
def record_cell(request: pytest.FixtureRequest) -> Record:
    """Note how a cell ended."""
    lines = request.config.stash.setdefault(_LINES, [])

    def record(cell: Cell, played: Played) -> None:
        direct = played.direct.value if played.direct else "no end"
        through_s, again_s = played.took_s
        through = f"{played.through.value:>5} {through_s:5.1f} s"
        taken = f"{through}  (direct: {direct:<6})  then {played.again.value} {again_s:5.1f} s"
        whose = "" if cell.peer == "none" else " member" if cell.member else " stranger"
        where = f"{cell.client}, {cell.form.value}, {cell.upstream}, {cell.peer}{whose}"
        lines.append(f"{taken}  {where}: {cell}")

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show it."""
    if lines := config.stash.get(_LINES, None):
        terminalreporter.section("fault cells with real clients")
        for line in lines:
            terminalreporter.line(line)
