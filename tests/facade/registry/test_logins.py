"""Who sent a request: checked once, then remembered for a while."""

import asyncio
import base64
import threading

import pytest

from facade.registry.access import ANONYMOUS
from facade.registry.logins import REFUSED_S, REMEMBERED_S, Logins
from node.errors import DeniedError, ThrottledError
from tests.facade.machine import until


class Passwords:
    """Users with their passwords, which counts how often one is checked; checks wait while `held`."""

    def __init__(self, **passwords: str) -> None:
        self.checks = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._passwords = passwords

    def knows(self, name: str, password: str) -> bool:
        self.checks += 1
        assert self.go_on.wait(10)
        return self._passwords.get(name) == password


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


ALICE = basic("alice:wonder")
WRONG = basic("alice:Wonder")


@pytest.fixture
def users() -> Passwords:
    return Passwords(alice="wonder", zoë="pass:wörd")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(users: Passwords, clock: Clock) -> Logins:
    return Logins(users, clock)


@pytest.mark.parametrize("header", [None, "Basic Og=="])
async def test_without_a_login_everybody_is_anonymous(logins: Logins, users: Passwords, header: str | None) -> None:
    assert await logins.who(header) == ANONYMOUS
    assert not users.checks


@pytest.mark.parametrize(
    ("header", "name"),
    [(ALICE, "alice"), (ALICE.replace("Basic", "bAsIc"), "alice"), (basic("zoë:pass:wörd"), "zoë")],
)
async def test_a_right_login_is_its_user(logins: Logins, header: str, name: str) -> None:
    assert await logins.who(header) == name


@pytest.mark.parametrize(
    "header",
    [
        WRONG,
        basic("bob:wonder"),
        basic("alice:"),
        basic("alice"),
        basic(":wonder"),
        basic("anonymous:"),
        basic("alice\0:wonder"),
        basic("alice:" + "x" * 4096),
        "",
        "Basic",
        "Basic ====",
        "Basic /w==",
        "Basic ü",
        f"Bearer {ALICE[6:]}",
        f"{ALICE} x",
    ],
)
async def test_what_is_no_right_login_is_refused(logins: Logins, header: str) -> None:
    with pytest.raises(DeniedError):
        await logins.who(header)


async def test_a_right_login_is_checked_once_in_a_while(logins: Logins, users: Passwords, clock: Clock) -> None:
    for _ in range(3):
        await logins.who(ALICE)
    assert users.checks == 1
    clock.now += REMEMBERED_S
    await logins.who(ALICE)
    assert users.checks == 2


async def test_a_wrong_login_is_refused_for_a_moment_without_a_look(
    logins: Logins, users: Passwords, clock: Clock
) -> None:
    for moved, checks in ((0.0, 1), (0.0, 1), (REFUSED_S, 2)):
        clock.now += moved
        with pytest.raises(DeniedError, match="wrong"):
            await logins.who(WRONG)
        assert users.checks == checks


async def test_a_right_login_does_not_help_a_wrong_one(logins: Logins) -> None:
    await logins.who(ALICE)
    with pytest.raises(DeniedError):
        await logins.who(WRONG)


async def test_many_requests_with_one_login_are_one_check(users: Passwords) -> None:
    logins = Logins(users, at_once=1)
    assert await asyncio.gather(*(logins.who(ALICE) for _ in range(20))) == ["alice"] * 20
    assert users.checks == 1


async def test_with_other_users_nothing_that_was_remembered_counts(logins: Logins) -> None:
    await logins.who(ALICE)
    with pytest.raises(DeniedError):
        await logins.who(WRONG)
    logins.replace(Passwords(alice="Wonder"))
    assert await logins.who(WRONG) == "alice"
    with pytest.raises(DeniedError):
        await logins.who(ALICE)


async def test_a_check_against_users_that_were_replaced_meanwhile_is_not_remembered(users: Passwords) -> None:
    logins = Logins(users)
    users.go_on.clear()
    asking = asyncio.ensure_future(logins.who(ALICE))
    await until(lambda: users.checks)
    logins.replace(Passwords())
    users.go_on.set()
    assert await asking == "alice"
    with pytest.raises(DeniedError):
        await logins.who(ALICE)


async def test_who_would_wait_too_long_is_asked_for_patience(users: Passwords) -> None:
    logins = Logins(users, at_once=1, wait_s=0.05)
    users.go_on.clear()
    first = asyncio.ensure_future(logins.who(ALICE))
    await until(lambda: users.checks)
    with pytest.raises(ThrottledError):
        await logins.who(WRONG)
    users.go_on.set()
    assert await first == "alice"
    assert await logins.who(ALICE) == "alice"


async def test_no_password_is_kept(logins: Logins) -> None:
    await logins.who(ALICE)
    with pytest.raises(DeniedError):
        await logins.who(WRONG)
    kept = repr(vars(logins))
    assert "wonder" not in kept.lower() and ALICE[6:] not in kept and WRONG[6:] not in kept
