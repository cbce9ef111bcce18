"""A registry that wants a login, a node with one namespace of it for each kind of access, and who got an image how."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

import bcrypt

from tests.e2e.library import Library
from tests.e2e.mesh import Node, start_nodes
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.runtimes.runtime import Login, LogsIn

FACADE: Final = "127.0.0.1:5050"
REPOSITORY: Final = "library/small"
PASSWORD: Final = "wonder"
ALICE: Final[Login] = ("alice", PASSWORD)
MALLORY: Final[Login] = ("mallory", "guesses")
NOBODY: Final[Login | None] = None
REFUSE, CREDENTIALS, PASSTHROUGH, OTHER = "refuse.test", "credentials.test", "passthrough.test", "other.test"
PRIVATE: Final = {
    REFUSE: "refuse",
    CREDENTIALS: "credentials",
    PASSTHROUGH: "passthrough",
    OTHER: "passthrough",
}
OPEN: Final = "open.test"
"""Passed through to a registry that asks nobody for a login."""
NODE, DIRECT, FAILS = "from the node", "directly", "fails"
Ask = tuple[str, Login | None]
"""Whose image, with which login."""


@dataclass(frozen=True, slots=True)
class Corporate:
    """The registry, with users `alice` and `node`, and the node, which has the latter's login."""

    registry: Registry
    node: Node

    @classmethod
    def start(cls, network: Network, public: Registry, library: Library, folder: Path) -> Self:
        """Start both; `public` is the registry without logins, also behind `docker.io`."""
        registry = start_private(network, library)
        tables = {namespace: (registry, access) for namespace, access in PRIVATE.items()}
        tables |= dict.fromkeys((OPEN, "docker.io"), (public, "passthrough"))
        [node] = start_nodes(network, public, "a", "--config", write_config(folder, registry, tables))
        return cls(registry, node)

    def outcome(self, pull: Callable[[], str | None]) -> str:
        """Who gave an image to a pull that returns None, or what was said when it failed.

        Raises:
            AssertionError: when a pull that failed was given something, or one got a part each from node and registry.
        """
        served, logins = self._served(), len(self.registry.logins())
        failure = pull()
        gave = self._served() > served
        direct = set(self.registry.logins()[logins:]) - {"layermesh"}
        assert [failure is not None, gave, bool(direct)].count(True) == 1, (failure, gave, direct)
        return NODE if gave else DIRECT if direct else FAILS

    def outcomes(self, client: LogsIn, prefix: str, asked: Iterable[Ask]) -> dict[Ask, str]:
        """What came of pulling the image of each namespace with each login, under names that begin with `prefix`."""
        return {
            (namespace, login): self.outcome(partial(client.attempt, f"{prefix}{namespace}/{REPOSITORY}:1", login))
            for namespace, login in asked
        }

    def _served(self) -> int:
        return int(self.node.sample("layermesh_served_bytes_total"))


def start_private(network: Network, library: Library) -> Registry:
    """A registry that gives the library to `alice` and `node` alone."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return Registry.start(network.host("private"), library.storage, f"alice:{hashed}\nnode:{hashed}\n")


def write_config(folder: Path, private: Registry, upstreams: Mapping[str, tuple[Registry, str]]) -> str:
    """A node's configuration: its login for the private registry, and for each namespace a registry and its access."""
    auth = b64encode(f"node:{PASSWORD}".encode()).decode()
    (folder / "logins.json").write_text(json.dumps({"auths": {private.address: {"auth": auth}}}))
    lines = ["[facade]", f'credentials = "{folder}/logins.json"']
    for namespace, (registry, access) in upstreams.items():
        lines += [f'[facade.upstreams."{namespace}"]', f'endpoint = ["{registry.url}"]']
        lines += ["public = true", f'access = "{access}"']
    (folder / "layermesh.toml").write_text("\n".join(lines))
    return str(folder / "layermesh.toml")
