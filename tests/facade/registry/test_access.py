"""One decision: who may do what to which repository."""

import pytest

from facade.registry.access import (
    ALL_DO_ALL,
    ANONYMOUS,
    USERS_DO_ALL,
    Action,
    Pattern,
    Rule,
    allowed,
    reads_everything,
    reads_something,
)
from node.errors import InvalidError
from node.reference import Repository

APP = Repository("local", "team/app")
ALPINE = Repository("docker.io", "library/alpine")


def rule(*repositories: str, read: tuple[str, ...] = (), write: tuple[str, ...] = ()) -> Rule:
    return Rule(tuple(Pattern.parse(one) for one in repositories), frozenset(read), frozenset(write))


RULES = (
    rule("team/secret", read=("carol",), write=("alice",)),
    rule("team/*", "tools", read=("*",), write=("alice", "bob")),
    rule("docker.io/library/*", read=("anonymous",)),
)


@pytest.mark.parametrize(
    ("pattern", "namespace", "name", "matches"),
    [
        ("*", "local", "app", True),
        ("*", "docker.io", "library/alpine", True),
        ("team/*", "local", "team/app", True),
        ("team/*", "local", "team/a/b", True),
        ("team/*", "local", "team", False),
        ("team/*", "local", "teams/app", False),
        ("team/*", "local", "my/team/app", False),
        ("team/*", "docker.io", "team/app", False),
        ("team/app", "local", "team/app2", False),
        ("docker.io/library/*", "docker.io", "library/alpine", True),
        ("docker.io/library/*", "docker.io", "evil/library/alpine", False),
        ("docker.io/library/*", "dockerxio", "library/alpine", False),
        ("docker.io/alpine", "docker.io", "library/alpine", True),
        ("docker.io/*", "ghcr.io", "docker.io/app", False),
        ("*/secret", "ghcr.io", "team/secret", True),
        ("localhost:5000/*", "localhost:5000", "app", True),
        ("a*b**c", "local", "a/x/b-c", True),
    ],
)
def test_a_pattern_names_repositories(pattern: str, namespace: str, name: str, matches: bool) -> None:
    assert Pattern.parse(pattern).matches(Repository(namespace, name)) is matches


@pytest.mark.parametrize("text", ["", "Team/*", "/team", "team/", "[ab]/*", "a b", "team/?", "http://a\n"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="such as team/app"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("who", "repository", "rights"),
    [
        ("alice", "team/app", "pull push delete"),
        ("bob", "team/app", "pull push delete"),
        ("carol", "team/app", "pull"),
        (ANONYMOUS, "team/app", ""),
        ("alice", "team/secret", "pull push delete"),
        ("bob", "team/secret", ""),
        ("carol", "team/secret", "pull"),
        (ANONYMOUS, "team/secret", ""),
        ("carol", "tools", "pull"),
        ("alice", "elsewhere", ""),
        (ANONYMOUS, "elsewhere", ""),
    ],
)
def test_the_first_rule_that_names_a_repository_decides(who: str, repository: str, rights: str) -> None:
    granted = [str(action) for action in Action if allowed(RULES, who, action, Repository("local", repository))]
    assert granted == rights.split()


def test_what_anonymous_may_read_every_user_may_read() -> None:
    assert allowed(RULES, ANONYMOUS, Action.PULL, ALPINE) and allowed(RULES, "bob", Action.PULL, ALPINE)
    assert not allowed(RULES, "alice", Action.PUSH, ALPINE)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("repository", [APP, ALPINE])
def test_without_rules_users_may_do_everything_and_strangers_nothing(action: Action, repository: Repository) -> None:
    assert allowed(USERS_DO_ALL, "bob", action, repository)
    assert not allowed(USERS_DO_ALL, ANONYMOUS, action, repository)
    assert allowed(ALL_DO_ALL, ANONYMOUS, action, repository)


def test_without_any_rule_nobody_may_do_anything() -> None:
    assert not allowed((), "alice", Action.PULL, APP)


def test_whether_there_is_anything_to_read() -> None:
    assert reads_something(RULES, ANONYMOUS) and reads_something(RULES, "dave")
    assert not reads_something(USERS_DO_ALL, ANONYMOUS)
    assert not reads_something(RULES[:1], "dave")


@pytest.mark.parametrize(
    ("rules", "everything"),
    [
        (USERS_DO_ALL, True),
        (RULES, False),
        ((rule("secret", read=("alice",)), rule("*", read=("*",))), False),
        ((rule("secret", read=("*",)), rule("*", read=("*",))), True),
        ((rule("*", read=("*",)), rule("secret", read=("alice",))), True),
        ((rule("*/*", read=("*",)),), False),
    ],
)
def test_everything_is_what_no_rule_keeps_back(rules: tuple[Rule, ...], everything: bool) -> None:
    assert reads_everything(rules, "bob") is everything
