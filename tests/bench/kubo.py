"""Kubo as a peer to be measured: the daemon of the tests, or a line that says how to get it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.processes import cpu_seconds
from tests.bench.rows import MissingToolError
from tests.kubo.daemon import Kubo, built_kubo, kubo_environment, running_kubo

KUBO = "Kubo 0.43.0"


@contextmanager
def kubo_daemon(repo: Path) -> Iterator[Kubo]:
    """A private daemon on loopback, with an empty repository on disk (flatfs, as it is shipped).

    Raises:
        MissingToolError: when it was not built.
    """
    try:
        built_kubo()
    except pytest.skip.Exception:
        raise MissingToolError(KUBO, "make kubo") from None
    with running_kubo(repo) as daemon:
        yield daemon


def added(daemon: Kubo, file: Path) -> str:
    """Add a file in the profile that the daemon was made with (`unixfs-v1-2025`), by Kubo's own command; its CID."""
    command = [built_kubo(), "add", "--quieter", str(file)]
    done = subprocess.run(
        command, env=kubo_environment(daemon.repo), capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


def cpu_of(daemon: Kubo) -> float:
    """The CPU seconds it has taken."""
    assert daemon.process is not None
    return cpu_seconds(daemon.process.pid)
