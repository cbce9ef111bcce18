"""How far long work is: a bar with a rate on standard error, where somebody looks."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Counted:
    """Bytes of one piece of work, and how long it took."""

    def __init__(self) -> None:
        self.bytes = 0
        self.seconds = 0.0

    @property
    def rate(self) -> int:
        """Bytes a second."""
        return round(self.bytes / self.seconds) if self.seconds else 0

    def more(self, count: int) -> None:
        """So many bytes more are done."""
        self.bytes += count


@contextmanager
def counting(label: str, total: int | None, *, show: bool) -> Iterator[Counted]:
    """Count, and show it on a terminal; `total` is None where nobody knows how much there will be."""
    counted, began = _on_terminal(label, total) if show and sys.stderr.isatty() else (Counted(), time.monotonic())
    try:
        yield counted
    finally:
        counted.seconds = time.monotonic() - began
        if isinstance(counted, _Shown):
            counted.stop()


def _on_terminal(label: str, total: int | None) -> tuple["_Shown", float]:
    return _Shown(label, total), time.monotonic()


class _Shown(Counted):
    """The same, with a bar."""

    def __init__(self, label: str, total: int | None) -> None:
        from rich.console import Console  # loaded only by those who look
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.start()
        self._task = self._progress.add_task(label, total=total)

    def more(self, count: int) -> None:
        super().more(count)
        self._progress.update(self._task, advance=count)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()
