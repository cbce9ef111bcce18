"""Logins from a file that changes, and from credential helpers: real programs on a path of the test's own."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from yarl import URL

from facade.cli.wiring import read_credentials
from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.credentials import Credentials, Helper, Login
from facade.upstream.keyring import AGAIN_S, KEEP_S, LOOK_EVERY_S, CredentialsFile, Keyring, run_helper
from node.errors import DeniedError, NotFoundError
from node.reference import Tag
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic, Bearer

CORP = URL("https://corp.test")
HELPER = Helper("test", "corp.test")


class Clock:
    """A time that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A helper that answers what it is told to, and counts."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)

    def __call__(self, helper: Helper) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(user: str, secret: str) -> bytes:
    return json.dumps({"ServerURL": "corp.test", "Username": user, "Secret": secret}).encode()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes `docker-credential-test` of this shell text."""

    def make(text: str) -> None:
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return make


def keyring(clock: Clock, told: Told) -> Keyring:
    return Keyring(Credentials(helpers={"corp.test": HELPER}), clock, told)


async def test_a_helpers_login_is_used_for_five_minutes() -> None:
    clock, told = Clock(), Told(answer("me", "one"), answer("me", "two"))
    keys = keyring(clock, told)
    assert await keys.login(CORP, "a") == await keys.login(CORP, "b") == Login("me", "one")
    clock.now += KEEP_S
    assert await keys.login(CORP, "a") == Login("me", "two")
    assert await keys.login(URL("https://other.test"), "a") is None


async def test_an_identity_token_of_a_helper_is_told_by_its_user() -> None:
    assert await keyring(Clock(), Told(answer("<token>", "identity"))).login(CORP, "a") == Login("", "", "identity")


async def test_many_at_once_share_one_run() -> None:
    keys = keyring(Clock(), Told(answer("me", "one")))
    async with asyncio.timeout(10):
        logins = await asyncio.gather(*(keys.login(CORP, "a") for _ in range(8)))
    assert logins == [Login("me", "one")] * 8


@pytest.mark.parametrize("failure", [DeniedError("it failed"), b"secret, no JSON", b"{}", b'"secret"', b"\xff"])
async def test_a_helper_that_fails_is_no_login_and_is_asked_again_soon(failure: bytes | Exception) -> None:
    clock = Clock()
    keys = keyring(clock, Told(failure, answer("me", "one")))
    with capture_logs() as logs:
        assert await keys.login(CORP, "a") is None
        assert await keys.login(CORP, "a") is None
    assert [line["log_level"] for line in logs] == ["warning"] and "secret," not in str(logs)
    clock.now += AGAIN_S
    assert await keys.login(CORP, "a") == Login("me", "one")


async def test_a_helper_that_knows_no_login_is_no_failure() -> None:
    with capture_logs() as logs:
        assert await keyring(Clock(), Told(NotFoundError("none"))).login(CORP, "a") is None
    assert not [line for line in logs if line["log_level"] == "warning"]


def test_the_program_gets_the_server_and_says_what_it_knows(program: Callable[[str], None]) -> None:
    program("""read server; echo "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$server\\"}" """)
    assert json.loads(run_helper(HELPER)) == {"Username": "get", "Secret": "corp.test"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("echo credentials not found in native keychain; exit 1", NotFoundError, "knows no login for corp.test"),
        ("echo secret; echo secret >&2; exit 3", DeniedError, "^docker-credential-test failed with exit status 3$"),
        ("exec sleep 60", DeniedError, "gave no answer within 0.3 s"),
        ("sleep 60 & wait", DeniedError, "gave no answer within 0.3 s"),
    ],
)
def test_a_program_that_fails_is_said_in_one_line_without_its_words(
    program: Callable[[str], None], text: str, error: type[Exception], message: str
) -> None:
    program(text)
    with pytest.raises(error, match=message):
        run_helper(HELPER, 0.3 if "sleep" in text else 10.0)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(DeniedError, match="docker-credential-none cannot be run: no such file or directory"):
        run_helper(Helper("none", "corp.test"))


async def test_a_private_image_comes_with_the_login_of_a_program(
    registry: FakeRegistry, program: Callable[[str], None]
) -> None:
    program("""cat >/dev/null; echo '{"Username": "<token>", "Secret": "identity"}'""")
    registry.auth = Bearer(private=frozenset({"team/app"}), identities={"identity": "me"})
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    config = UpstreamConfig.parse(NAMESPACE, registry.url)
    async with Upstreams([config], credentials=Credentials(store="test"), limits=LIMITS) as upstreams:
        assert (await upstreams.manifest(REPOSITORY, Tag("latest"))).manifest.digest == image.manifest.digest


def written(path: Path, password: str) -> None:
    path.write_text(json.dumps({"auths": {"corp.test": {"username": "me", "password": password}}}))


async def test_a_file_that_changed_is_read_again_and_a_broken_one_leaves_the_last_good_one(tmp_path: Path) -> None:
    path, clock = tmp_path / "config.json", Clock()
    written(path, "one")
    file = CredentialsFile(path, await asyncio.to_thread(read_credentials, path), read_credentials, clock)

    async def login() -> object:
        clock.now += LOOK_EVERY_S
        return (await file.current()).find("corp.test", "a")

    assert await login() == Login("me", "one")
    written(path, "other")
    assert await login() == Login("me", "other")
    with capture_logs() as logs:
        path.write_text('{"auths": {"corp.test": {"auth": "***secret"}}}')
        assert await login() == await login() == Login("me", "other")
        path.unlink()
        assert await login() == await login() == Login("me", "other")
    assert [str(path) in line["why"] for line in logs] == [True, True] and "***secret" not in str(logs)
    written(path, "third")
    assert await login() == Login("me", "third")


async def test_the_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    path, clock, reads = tmp_path / "config.json", Clock(), [0]

    def read(_: Path) -> Credentials:
        reads[0] += 1
        return Credentials()

    file = CredentialsFile(path, Credentials(), read, clock)
    for number in range(5):
        path.write_text("x" * number)
        await file.current()
    assert reads == [1]
    clock.now += LOOK_EVERY_S
    await file.current()
    assert reads == [2]


async def test_a_new_password_is_used_without_a_restart(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.auth = Basic({"me": "new"})
    registry.push("team/app", make_image("seed", (10,)), "latest")
    path, clock = tmp_path / "config.json", Clock()
    config = UpstreamConfig.parse(NAMESPACE, registry.url)

    def read(path: Path) -> Credentials:
        return Credentials({(registry.address, ""): Login("me", path.read_text())})

    path.write_text("old")
    file = CredentialsFile(path, Credentials(), read, clock)
    async with Upstreams([config], credentials=file, limits=LIMITS) as upstreams:
        with pytest.raises(DeniedError):
            await upstreams.manifest(REPOSITORY, Tag("latest"))
        path.write_text("new")
        clock.now += LOOK_EVERY_S
        assert not (await upstreams.manifest(REPOSITORY, Tag("latest"))).anonymous
