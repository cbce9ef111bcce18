"""All cells that were chosen run side by side, in processes of their own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.facade.matrix.cells import Cell
from tests.facade.matrix.report import summary, table
from tests.facade.matrix.workers import Results, running

SCALE: Final = float(os.environ.get("MATRIX_SCALE", "0.25"))
"""How long all waits are, compared with the defaults; 1 measures what people will see, in about ten minutes."""
AT_ONCE: Final = int(os.environ.get("MATRIX_AT_ONCE", "5"))
"""Cells at once in each process."""
_REPORT: Final = pytest.StashKey[str]()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """The results of all chosen cells; at the end, how long each took is written down."""
    chosen: list[Cell] = [
        item.callspec.params["cell"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "results" in item.fixturenames
    ]
    folder = tmp_path_factory.mktemp("matrix")
    with running(chosen, folder, SCALE, AT_ONCE) as results:
        yield results
        results.end()
    path = Path(os.environ.get("MATRIX_REPORT") or folder / "added.txt")
    path.write_text(table(results.done, SCALE))
    request.config.stash[_REPORT] = "\n".join([*summary(results.done, SCALE), f"added time of every cell: {path}"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the table is, and what is worst in it."""
    if (text := config.stash.get(_REPORT, None)) is not None:
        terminalreporter.section("fault matrix")
        terminalreporter.line(text)
