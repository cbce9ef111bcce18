"""Logins as they are now: from a file that is watched, and from the programs that it names.

A credential helper is run as `docker-credential-NAME get`, never by a shell, with the server on its standard input
(docker-credential-helpers, "Development").
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import msgspec
import structlog
from yarl import URL

from facade.upstream.credentials import Credentials, CredentialsSource, Helper, Login
from node.errors import DeniedError, LayermeshError, NotFoundError

log = structlog.get_logger(__name__)
HELPER_S: Final = 4.0
KEEP_S: Final = 300.0
AGAIN_S: Final = 30.0
LOOK_EVERY_S: Final = 1.0
_MOST_HELD: Final = 4096
_IDENTITY: Final = "<token>"

Run = Callable[[Helper], bytes]
"""Runs a helper and returns what it prints; blocks.

Raises:
    NotFoundError: when it knows no login.
    DeniedError: when it fails, with a reason that holds no secret.
"""


class CredentialsFile:
    """A `config.json` that is read again when it changed; one that is broken leaves the last good one in force."""

    def __init__(
        self, path: Path, first: Credentials, read: Callable[[Path], Credentials], clock: Callable[[], float]
    ) -> None:
        """`first` is what the file held a moment ago; `read` raises a `LayermeshError` that names the file."""
        self._path, self._credentials, self._read, self._clock = path, first, read, clock
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = clock()

    async def current(self) -> Credentials:
        """Implements `CredentialsSource`; the file is looked at once a second at most."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_EVERY_S
            await asyncio.to_thread(self._look)
        return self._credentials

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._credentials = self._read(self._path)
        except LayermeshError as error:
            log.warning("credentials not read again, the last good ones stay", why=str(error))
        self._stamp = stamp


def _stamp(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written or replaced; zeros where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


class _Answer(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


@dataclass(slots=True)
class _Kept:
    """What a helper said, and the one run of it that may be under way."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    login: Login | None = None
    until: float = float("-inf")


def run_helper(helper: Helper, limit_s: float = HELPER_S) -> bytes:
    """See `Run`."""
    program = f"docker-credential-{helper.name}"
    try:
        with subprocess.Popen(
            (program, "get"), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        ) as running:
            try:
                told, _ = running.communicate(helper.server.encode(), limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(
                    running.pid, signal.SIGKILL
                )  # with what it started; it is not waited for yet, so it is its own
                raise
    except subprocess.TimeoutExpired:
        raise DeniedError(f"{program} gave no answer within {limit_s:g} s") from None
    except OSError as error:
        raise DeniedError(f"{program} cannot be run: {os.strerror(error.errno or 0).lower()}") from None
    if running.returncode and b"credentials not found" in told:
        raise NotFoundError(f"{program} knows no login for {helper.server}")
    if running.returncode:
        raise DeniedError(f"{program} failed with exit status {running.returncode}")
    return told


class Keyring:
    """Finds the login for an endpoint; what a helper said counts for five minutes, one run of each at a time."""

    def __init__(self, source: CredentialsSource, clock: Callable[[], float], run: Run = run_helper) -> None:
        self._source, self._clock, self._run = source, clock, run
        self._kept: dict[Helper, _Kept] = {}

    async def login(self, endpoint: URL, repository_name: str) -> Login | None:
        """The login to use there, if there is one; a helper that fails is none, and is asked again after 30 s."""
        host = endpoint.host_subcomponent or ""
        place = host if endpoint.is_default_port() else f"{host}:{endpoint.port}"
        found = (await self._source.current()).find(place, repository_name)
        return await self._ask(found) if isinstance(found, Helper) else found

    async def _ask(self, helper: Helper) -> Login | None:
        if len(self._kept) >= _MOST_HELD and helper not in self._kept:
            del self._kept[next(iter(self._kept))]
        kept = self._kept.setdefault(helper, _Kept())
        async with kept.lock:
            if self._clock() < kept.until:
                return kept.login
            keep_s = KEEP_S
            try:
                kept.login = _read(await asyncio.to_thread(self._run, helper))
            except NotFoundError as error:
                kept.login = None
                log.debug("no login", why=str(error))
            except DeniedError as error:
                kept.login, keep_s = None, AGAIN_S
                log.warning("credential helper failed, going on without", registry=helper.server, why=str(error))
            kept.until = self._clock() + keep_s
            return kept.login


def _read(data: bytes) -> Login:
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DeniedError("its answer is not the JSON that is expected") from None
    if not answer.secret:
        raise DeniedError("its answer holds no secret")
    if answer.username == _IDENTITY:
        return Login("", "", answer.secret)
    return Login(answer.username, answer.secret)
