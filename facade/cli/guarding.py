"""What keeps the registry listeners from strangers, read from what an operator wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facade.cli.files import read_file
from facade.cli.pulling import Doors
from facade.cli.tables import AccessTable, FacadeTable
from facade.cli.tls import ServerTls, TlsFiles
from facade.hosts import is_loopback
from facade.registry.access import ALL_DO_ALL, ANONYMOUS, USERS_DO_ALL, Action, Pattern, Rule, allowed
from facade.registry.htpasswd import Users, parse_htpasswd
from facade.settings import FacadeSettings
from facade.upstream.config import Access
from node.errors import InvalidError, StartError
from node.reference import DOCKER_HUB, Repository

_EXAMPLE: Final = Repository(DOCKER_HUB, "library/alpine")


@dataclass(frozen=True, slots=True)
class UsersFile:
    """The facade's users, and the file that they were read from."""

    path: Path
    users: Users


@dataclass(frozen=True, slots=True)
class Guarding:
    """What keeps the registry listeners from strangers: users and rules, and TLS; both may be absent."""

    users: UsersFile | None = None
    rules: tuple[Rule, ...] = ALL_DO_ALL
    tls: ServerTls | None = None

    @property
    def doors(self) -> Doors:
        """What a client needs to pull from Docker Hub through the listeners."""
        login = not allowed(self.rules, ANONYMOUS, Action.PULL, _EXAMPLE)
        return Doors(tls=self.tls is not None, users=self.users is not None, login=login)


def check_exposure(settings: FacadeSettings, guarding: Guarding) -> None:
    """Refuse to offer unprotected listeners to other machines, unless the operator insists; and two kinds of logins.

    Raises:
        StartError: naming the listener, the settings that protect it, and the flag.
    """
    if guarding.users and (namespace := passes_through(settings)):
        raise StartError(
            f'[facade.upstreams."{namespace}"] access = "passthrough" and [facade] htpasswd exclude each other:'
            " a client has one login, which is either for this node or for the upstream"
        )
    sidecar = settings.kubo_sidecar
    if sidecar is not None and not is_loopback(sidecar.host):
        raise StartError(
            f"--kubo-sidecar {sidecar} would be open to other machines, and a Kubo cannot say who it is:"
            " choose a loopback address, such as 127.0.0.1:5054"
        )
    if settings.insecure:
        return
    if not is_loopback(settings.admin.host):
        raise StartError(
            f"--admin {settings.admin} would be open to other machines without a login:"
            " choose a loopback address, or insist with --insecure"
        )
    if guarding.users or guarding.tls:
        return
    for flag, address in {"--facade": settings.facade, "--docker-mirror": settings.docker_mirror}.items():
        if address is not None and not is_loopback(address.host):
            raise StartError(
                f"{flag} {address} would be open to other machines without a login or TLS: choose a loopback address,"
                " set [facade] htpasswd, or tls_cert and tls_key, or insist with --insecure"
            )


def exposed_passwords(settings: FacadeSettings, guarding: Guarding) -> bool:
    """Whether users' passwords, or those that go on to upstreams, cross a network as they are."""
    addresses = (settings.facade, settings.docker_mirror)
    beyond = any(address is not None and not is_loopback(address.host) for address in addresses)
    return beyond and guarding.tls is None and bool(guarding.users or passes_through(settings))


def passes_through(settings: FacadeSettings) -> str | None:
    """A namespace whose upstream is shown the clients' own logins; None without any."""
    named = (config.namespace for config in settings.upstreams if config.access is Access.PASSTHROUGH)
    return next(named, None)


def read_guarding(facade: FacadeTable) -> Guarding:
    """The users with their rules, and the certificate with its key.

    Raises:
        StartError: when a file cannot be used, or a setting lacks the one that it needs.
    """
    if facade.access and facade.htpasswd is None:
        raise StartError("[[facade.access]] says what users may do, but there are none: set [facade] htpasswd as well")
    if (facade.tls_cert is None) != (facade.tls_key is None):
        lacking = "tls_key" if facade.tls_key is None else "tls_cert"
        raise StartError(f"[facade] {lacking} is missing: a certificate and its key go together")
    users = UsersFile(facade.htpasswd, read_users(facade.htpasswd)) if facade.htpasswd else None
    files = TlsFiles(facade.tls_cert, facade.tls_key) if facade.tls_cert and facade.tls_key else None
    rules = tuple(_rule(table) for table in facade.access) or (USERS_DO_ALL if users else ALL_DO_ALL)
    return Guarding(users, rules, ServerTls(files) if files else None)


def _rule(table: AccessTable) -> Rule:
    patterns = tuple(Pattern.parse(text) for text in table.repositories)
    return Rule(patterns, frozenset(table.read), frozenset(table.write))


def read_users(path: Path) -> Users:
    """The users of an htpasswd file.

    Raises:
        StartError: when it cannot be read, or naming the line that is malformed.
    """
    try:
        data = read_file(path).data
    except InvalidError as error:
        raise StartError(f"htpasswd file {path}: it {error}") from None
    try:
        return parse_htpasswd(data)
    except InvalidError as error:
        raise StartError(f"htpasswd file {path}: {error}") from None
