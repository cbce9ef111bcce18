"""Credentials from a Docker `config.json` (containers-auth.json(5), "FORMAT")."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password for one registry; never shown in messages."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The logins that a configuration file holds."""


NO_CREDENTIALS = Credentials()


def load_credentials(path: Path) -> Credentials:
    """Read a Docker `config.json`; a missing file holds no logins. Blocks: for use before the event loop runs.

    Raises:
        InvalidError: naming the file and what is wrong in it, never a secret.
    """
    raise NotImplementedError
