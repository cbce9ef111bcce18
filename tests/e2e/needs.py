"""What the end-to-end tests need of a machine, and how to say that it is not there."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_TOOLS: Final = (
    "containerd",
    "ctr",
    "docker",
    "docker-registry",
    "dockerd",
    "ip",
    "mkfs.ext4",
    "nsenter",
    "podman",
    "runc",
    "setpriv",
    "skopeo",
    "tc",
    "unshare",
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUILT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layermesh-e2e" / "bin"


@cache
def missing(tools: tuple[str, ...] = _TOOLS) -> str | None:
    """Why this machine cannot run the end-to-end tests; None when it can."""
    absent = [tool for tool in tools if shutil.which(tool, path=_PATH) is None]
    if absent:
        return f"{', '.join(absent)} not installed: run `make provision` as root (Debian)"
    if os.geteuid() != 0:
        return "network namespaces need root: run `sudo make provision`, then `sudo make test`"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no namespaces here ({tried.stderr.strip()}): run on a machine of its own, or in a privileged container"
    return None


def skip_without(*tools: str) -> None:
    """Skip the test, with the reason and the command that provides it, where the machine lacks something."""
    reason = missing((*_TOOLS, *tools)) if tools else missing()
    if reason:
        pytest.skip(reason)


def skip_without_loop_devices() -> None:
    """Skip the test where no file can be mounted as a disk."""
    if not Path("/dev/loop-control").exists():
        pytest.skip("no loop devices here: run `modprobe loop` as root, or on a machine of its own")


def built(tool: str) -> str:
    """Where a tool is that is built from its Go module; the test is skipped where it is not."""
    path = _BUILT / tool
    if not path.exists():
        pytest.skip(f"{tool} not built: install Go 1.26.6 or newer and run `make provision` as root (Debian)")
    return str(path)
