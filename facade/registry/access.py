"""Who may do what to which repository: one decision, `allowed`, which every request goes through. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from node.errors import InvalidError
from node.reference import DOCKER_HUB, Repository

ANONYMOUS: Final = "anonymous"
"""Whoever shows no login. In a rule it means everybody."""
ANY_USER: Final = "*"
"""In a rule: everybody who has logged in."""
OWN: Final = "local"
"""The namespace of the cluster's own repositories, which people leave out."""
_PATTERN: Final = re.compile(r"[a-z0-9*](?:[a-z0-9._:*/-]*[a-z0-9*])?")


class Action(StrEnum):
    """What a request does to a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Names of repositories: `team/app`, `docker.io/library/*`, `*`. A star stands for any characters, `/` as well."""

    text: str
    _expression: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check what an operator wrote; one word on Docker Hub lies in `library/`, as everywhere.

        Raises:
            InvalidError: saying what is expected.
        """
        if not _PATTERN.fullmatch(text):
            raise InvalidError("names of repositories are expected, such as team/app, docker.io/library/* or *")
        namespace, slash, name = text.partition("/")
        if namespace == DOCKER_HUB and slash and "/" not in name and "*" not in name:
            text = f"{DOCKER_HUB}/library/{name}"
        return cls(text, re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", text))))

    def matches(self, repository: Repository) -> bool:
        """Whether it names the repository: an own one by its name alone, a mirrored one behind its namespace."""
        return self._expression.fullmatch(shown(repository)) is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may read, and who may read, push to and delete from, the repositories that the patterns name."""

    repositories: tuple[Pattern, ...]
    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()

    def names(self, repository: Repository) -> bool:
        """Whether it speaks of the repository."""
        return any(pattern.matches(repository) for pattern in self.repositories)

    def grants(self, who: str, action: Action) -> bool:
        """Whether it lets `who` do this."""
        people = self.read | self.write if action is Action.PULL else self.write
        return ANONYMOUS in people or (who != ANONYMOUS and (ANY_USER in people or who in people))


EVERYTHING: Final = Pattern.parse("*")
USERS_DO_ALL: Final = (Rule((EVERYTHING,), write=frozenset({ANY_USER})),)
"""What holds where there are users and no rules."""
ALL_DO_ALL: Final = (Rule((EVERYTHING,), write=frozenset({ANONYMOUS})),)
"""What holds where there are no users."""


def allowed(rules: Sequence[Rule], who: str, action: Action, repository: Repository) -> bool:
    """Whether `who`, a user's name or `anonymous`, may do this: the first rule that names the repository decides.

    What no rule names, nobody may touch.
    """
    rule = next((rule for rule in rules if rule.names(repository)), None)
    return rule is not None and rule.grants(who, action)


def reads_something(rules: Sequence[Rule], who: str) -> bool:
    """Whether there is anything that `who` may read."""
    return any(rule.grants(who, Action.PULL) for rule in rules)


def reads_everything(rules: Sequence[Rule], who: str) -> bool:
    """Whether there is nothing that `who` may not read."""
    for rule in rules:
        if not rule.grants(who, Action.PULL):
            return False
        if EVERYTHING in rule.repositories:
            return True
    return False


def shown(repository: Repository) -> str:
    """A repository's name as people and rules have it."""
    return repository.name if repository.namespace == OWN else str(repository)
