"""Processes that run cells side by side, as many as there are processors; each sends its results as they come."""

import asyncio
import gc
import multiprocessing
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from traceback import format_exc
from typing import Any, Final

import structlog

from tests.facade.matrix.cells import Cell, Matrix, Result, problems
from tests.fakes.registry import FakeRegistry
from tests.guards import no_blocked_loop, no_leaks

_WORKERS: Final = 2
_RESULT_S: Final = 300.0
_END_S: Final = 20.0
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


class Results:
    """The results of all chosen cells, as far as they have come."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.done: dict[Cell, Result] = {}
        self._failed: dict[Cell, str] = {}
        self._connections = list(connections)

    def of(self, cell: Cell) -> Result:
        """Wait for a cell.

        Raises:
            AssertionError: when it could not be run, with the reason; or a worker ended badly.
        """
        while cell not in self.done:
            assert cell not in self._failed, self._failed[cell]
            self._receive(_RESULT_S)
        return self.done[cell]

    def end(self) -> None:
        """Wait for the workers to look for what they left behind."""
        while self._connections:
            self._receive(_END_S)

    def _receive(self, limit_s: float) -> None:
        ready = wait(self._connections, limit_s)
        assert ready, f"no cell came to an end within {limit_s:g} s"
        for connection in ready:
            assert isinstance(connection, Connection)
            try:
                cell, result = connection.recv()
            except EOFError:
                self._connections.remove(connection)
                continue
            assert cell is not None, result
            if isinstance(result, Result):
                self.done[cell] = result
            else:
                self._failed[cell] = result


@contextmanager
def running(cells: Sequence[Cell], folder: Path, scale: float, at_once: int) -> Iterator[Results]:
    """Run cells until the block is left. All of one runtime and upstream are one worker's, for their direct pull; those
    of networks, which would all be one's, are others.
    """
    groups = list(dict.fromkeys(map(_group, cells)))
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        connections = []
        for number in range(min(_WORKERS, len(groups))):
            mine = [cell for cell in cells if groups.index(_group(cell)) % _WORKERS == number]
            receiving, sending = context.Pipe(duplex=False)
            worker = context.Process(
                target=_work, args=(mine, folder / str(number), scale, at_once, sending), daemon=True
            )
            worker.start()
            sending.close()
            stack.callback(_end, worker)
            stack.callback(receiving.close)
            connections.append(receiving)
        yield Results(connections)


def _group(cell: Cell) -> tuple[str, str, bool]:
    return cell.runtime, cell.upstream, cell.network != "none"


def _end(worker: Any) -> None:
    worker.terminate()
    worker.join(_END_S)
    worker.close()


def _work(cells: Sequence[Cell], folder: Path, scale: float, at_once: int, sending: Connection) -> None:
    """One worker; when all cells are done, whatever is amiss is told for no cell."""
    warnings.simplefilter("error")
    structlog.configure(processors=[_note])
    amiss: list[str] = []
    sys.unraisablehook = lambda raised: amiss.append(f"{raised.err_msg}: {raised.exc_value!r} in {raised.object!r}")
    folder.mkdir()
    try:
        with no_blocked_loop(), no_leaks():
            asyncio.run(_run(cells, folder, scale, at_once, sending))
            gc.collect()
        assert not amiss, amiss
    except BaseException:
        sending.send((None, format_exc()))
        raise
    finally:
        sending.close()


async def _run(cells: Sequence[Cell], folder: Path, scale: float, at_once: int, sending: Connection) -> None:
    async with FakeRegistry() as elsewhere:
        matrices = [Matrix(folder, elsewhere, scale, at_once)]
        if scale < 1:
            (folder / "unhurried").mkdir()
            matrices.append(Matrix(folder / "unhurried", elsewhere, 1.0, at_once))
        async with asyncio.TaskGroup() as group:
            for cell in cells:
                group.create_task(_one(matrices, cell, folder, sending))
    pending = asyncio.all_tasks() - {asyncio.current_task()}
    assert not pending, f"tasks left running: {pending}"


async def _one(matrices: Sequence[Matrix], cell: Cell, folder: Path, sending: Connection) -> None:
    said: list[str] = []
    _said.set(said)
    try:
        result = replace(await _run_cell(matrices, cell), log=tuple(said))
    except Exception:
        sending.send((cell, "\n".join([*said, format_exc()])))
        return
    await asyncio.to_thread(shutil.rmtree, folder / str(cell), ignore_errors=True)
    sending.send((cell, result))


async def _run_cell(matrices: Sequence[Matrix], cell: Cell) -> Result:
    """With each matrix's waits, until nothing is wrong: what only a slow machine cannot keep is no broken promise.

    Wrong bytes are never forgiven.
    """
    hurried: list[str] = []
    for matrix in matrices[:-1]:
        result = await matrix.run(cell)
        found = problems(cell, result)
        if not found or result.through.observed.passed_off:
            return result
        hurried += found
    return replace(await matrices[-1].run(cell), hurried=tuple(hurried))


def _note(logger: Any, method: str, event: Any) -> Any:
    """Keep what is logged with the cell in which it happens."""
    said = _said.get()
    if said is not None:
        said.append(f"{method}: {event}")
    raise structlog.DropEvent
