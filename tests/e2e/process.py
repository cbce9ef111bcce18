"""Programs that a test starts: their logs, waiting until they are ready, and their end."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TICK_S: Final = 0.05


@dataclass
class Process:
    """One running program; all it says goes to one log."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: IO[bytes]

    @classmethod
    def start(cls, argv: Sequence[str], *, name: str, environment: Mapping[str, str]) -> Self:
        """Start `argv` in a session of its own, with exactly this environment."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process, closed by `end`
        popen = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return cls(name, popen, log)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def output(self, most: int = 1 << 20) -> str:
        """The end of what it said so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), most, max(0, size - most)).decode(errors="replace")

    def until(self, true: Callable[[], bool], what: str, within_s: float = 20) -> None:
        """Wait until something has come true while this runs.

        Raises:
            AssertionError: when it ends first, or takes too long.
        """

        def _true() -> bool:
            assert self.running, f"{self.name} ended with {self.popen.returncode} before {what}:\n{self.output(4000)}"
            return true()

        wait_until(_true, f"{what} ({self.name})", within_s)

    def finish(self, within_s: float = 90) -> str:
        """Wait for its own end, and return what it said.

        Raises:
            AssertionError: when it fails or takes too long.
        """
        wait_until(lambda: not self.running, f"{self.name} ends", within_s)
        assert self.popen.returncode == 0, f"{self.name} ended with {self.popen.returncode}:\n{self.output(6000)}"
        return self.output()

    def terminate(self, within_s: float) -> int:
        """Send SIGTERM and return the exit status.

        Raises:
            AssertionError: when it is still there after `within_s`.
        """
        self.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: not self.running, f"{self.name} stops after SIGTERM", within_s)
        return self.popen.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It hangs for a while: its connections stay open, and nothing is answered."""
        self.popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.popen.kill()
        self.popen.wait(timeout=10)

    def end(self) -> None:
        """SIGTERM, then SIGKILL: afterwards it is gone. Its log is kept for a moment longer, in memory."""
        if self.running:
            self.popen.terminate()
            try:
                self.popen.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()


def wait_until(true: Callable[[], bool], what: str, within_s: float = 20) -> None:
    """Look again and again until something is true.

    Raises:
        AssertionError: naming `what` did not come true in time.
    """
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"after {within_s} s it is still not so that {what}"
        time.sleep(_TICK_S)


def clean_environment(home: Path) -> dict[str, str]:
    """An environment that holds nothing of the person or machine that runs the tests."""
    return {"PATH": _PATH, "HOME": str(home), "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home)}
