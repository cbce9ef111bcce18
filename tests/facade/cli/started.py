"""`layermesh up` in a process of its own, on ports that the system chooses."""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LIMIT_S: Final = 30.0
PROGRAM: Final = [sys.executable, "-c", "from facade.cli import main; main()"]
_ROOT: Final = Path(__file__).parents[3]
_LISTENERS: Final = ("--facade", "--docker-mirror", "--mesh", "--admin")


def environment(home: Path) -> dict[str, str]:
    """Nothing of the machine that runs the tests."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_ROOT),
        "PYTHONWARNINGS": "error",
    }


class Started:
    """A node that said that it is ready; `printed` is what it said."""

    def __init__(self, process: "subprocess.Popen[str]", home: Path, printed: str) -> None:
        self.process = process
        self.home = home
        self.printed = printed

    def address(self, listener: str) -> str:
        """Where a listener is, `HOST:PORT`."""
        found = re.search(rf"^  {listener} +(?:https?://)?(\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def ask(self, *command: str) -> Any:
        """What a command answers, as JSON."""
        done = run(*command, "--json", "--admin", self.address("admin"), home=self.home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Wait for the end: the exit status, and what was logged."""
        _, logged = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, logged


def run(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """One command from start to end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@contextmanager
def started(home: Path, data: Path, *flags: str, variables: Mapping[str, str] | None = None) -> Iterator[Started]:
    """A node without neighbours to find, with more environment `variables`; ended when this ends, whatever happened."""
    listeners = [part for flag in _LISTENERS for part in (flag, "127.0.0.1:0")]
    command = [*PROGRAM, "up", "--name", "tested", "--no-mdns", "--data", str(data), *listeners, *flags]
    env = environment(home) | dict(variables or {})
    with subprocess.Popen(
        command, env=env, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Started(process, home, _announced(process, command))
        finally:
            process.kill()


def _announced(process: "subprocess.Popen[str]", command: Sequence[str]) -> str:
    """What it prints until it is ready, read as it comes."""
    assert process.stdout is not None
    deadline, text = time.monotonic() + LIMIT_S, ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while "ctr images pull" not in text:
            assert selector.select(max(0.0, deadline - time.monotonic())), f"{command} is not ready:\n{text}"
            piece = os.read(process.stdout.fileno(), 65536).decode()
            assert piece, f"{command} ended:\n{text}{process.communicate()[1]}"
            text += piece
    return text
