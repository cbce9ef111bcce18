"""The configuration file's tables as types: what each key holds, and what it is when nobody says anything."""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec

from facade.registry.access import Pattern
from facade.settings import Address
from facade.upstream.tags import TagPolicy
from node.errors import InvalidError
from node.hosts import is_host
from node.ipfs.kubo.endpoint import Client, parse_rpc

_NETWORKS: Final = "embedded, kubo=URL or ipfshttpclient=URL"
_PORT: Final = re.compile("[0-9]{1,5}")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Url(str):
    """An `http://` or `https://` URL; holding one means that it has a host."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the scheme, host and port.

        Raises:
            ValueError: saying what is expected.
        """
        try:
            parts = urlsplit(text)
            host = parts.hostname or ""
            fine = parts.scheme in ("http", "https") and host and is_host(host) and parts.port != 0
        except ValueError:
            fine = False
        if not fine:
            raise ValueError("http://HOST:PORT or https://HOST[:PORT] is expected")
        return cls(text)


class IpfsTarget(str):
    """The IPFS network of a node: its own, or a Kubo's."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the network's name, and where its RPC is.

        Raises:
            ValueError: saying what is expected.
        """
        network, _, rpc = text.partition("=")
        if network in list(Client):
            try:
                parse_rpc(rpc)
            except InvalidError as error:
                raise ValueError(f"{_NETWORKS}; as URL {error}") from None
        elif text != "embedded":
            raise ValueError(f"{_NETWORKS} is expected, such as kubo=http://127.0.0.1:5001")
        return cls(text)


class NodeName(str):
    """A name that people tell nodes apart by."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check that it fits a host name label.

        Raises:
            ValueError: saying what is expected.
        """
        if not _NODE_NAME.fullmatch(text):
            raise ValueError("1 to 63 letters, digits and . _ - are expected")
        return cls(text)


class InterfaceAddress(str):
    """The IPv4 address of one of this machine's interfaces."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check that it is an address; whether an interface has it is seen when it is used.

        Raises:
            ValueError: saying what is expected.
        """
        try:
            return cls(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("an IPv4 address of this machine is expected, such as 10.0.0.7") from None


class Listen(str):
    """A `HOST:PORT` to listen on, an IPv6 host in brackets."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the host and the port.

        Raises:
            ValueError: saying what is expected.
        """
        host, colon, port = text.rpartition(":")
        bracketed = _IPV6.fullmatch(host[1:-1]) if host.startswith("[") and host.endswith("]") else None
        if not (colon and (bracketed or _HOST.fullmatch(host)) and _PORT.fullmatch(port) and int(port) < 65536):
            raise ValueError("HOST:PORT is expected, without http:// and with an IPv6 host in brackets")
        return cls(text)

    @property
    def address(self) -> Address:
        """The two parts, without brackets."""
        host, _, port = self.rpartition(":")
        return Address(host.strip("[]"), int(port))


class TagRule(str):
    """What counts for the tags of a pattern."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check that it is a policy.

        Raises:
            ValueError: saying what is expected.
        """
        try:
            TagPolicy.parse(text)
        except InvalidError as error:
            raise ValueError(str(error)) from None
        return cls(text)


class RepositoryPattern(str):
    """Names of repositories, as `facade.registry.access.Pattern` has them."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check that it is a pattern.

        Raises:
            ValueError: saying what is expected.
        """
        try:
            return cls(Pattern.parse(text).text)
        except InvalidError as error:
            raise ValueError(str(error)) from None


class NodeTable(msgspec.Struct, frozen=True):
    """`[node]`: this machine alone."""

    data: Path | None = None
    name: NodeName | None = None
    gateways: tuple[Url, ...] = ()
    log: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    ipfs: IpfsTarget = IpfsTarget("embedded")
    ipfs_auth_file: Path | None = None
    ipfs_ca_file: Path | None = None
    ipfs_gateway: Url | None = None


class ClusterTable(msgspec.Struct, frozen=True):
    """`[cluster]`: the other machines."""

    listen: Listen = Listen("0.0.0.0:5051")
    join: tuple[Url, ...] = ()
    mdns: bool = True
    mdns_interface: tuple[InterfaceAddress, ...] = ()
    advertise: Url | None = None
    secret_file: Path | None = None
    open_gateway: bool = False
    tls: bool = False


class UpstreamTable(msgspec.Struct, frozen=True):
    """`[facade.upstreams."NAMESPACE"]`: one registry; what is left out stays as it is built in."""

    endpoint: tuple[Url, ...] | None = None
    ca_file: Path | None = None
    public: bool | None = None
    access: Literal["refuse", "credentials", "passthrough"] | None = None
    share: Literal["cluster"] | None = None
    tags: Mapping[str, TagRule] | None = None


class AccessTable(msgspec.Struct, frozen=True):
    """`[[facade.access]]`: one rule."""

    repositories: tuple[RepositoryPattern, ...]
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class FacadeTable(msgspec.Struct, frozen=True):
    """`[facade]`: what runtimes talk to."""

    listen: Listen = Listen("127.0.0.1:5050")
    docker_mirror: Listen | None = Listen("127.0.0.1:5053")
    kubo_sidecar: Listen | None = None
    insecure: bool = False
    htpasswd: Path | None = None
    access: tuple[AccessTable, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    credentials: Path | None = None
    upstreams: Mapping[str, UpstreamTable] = {}


class AdminTable(msgspec.Struct, frozen=True):
    """`[admin]`: what people and Prometheus talk to."""

    listen: Listen = Listen("127.0.0.1:5052")


class Configuration(msgspec.Struct, frozen=True):
    """All of it: flags, environment, file and defaults made one."""

    node: NodeTable = NodeTable()
    cluster: ClusterTable = ClusterTable()
    facade: FacadeTable = FacadeTable()
    admin: AdminTable = AdminTable()


def decode(kind: type, value: object) -> Any:
    """Turn text into the types above that msgspec does not know (its `dec_hook`).

    Raises:
        ValueError: saying what is expected.
    """
    if not isinstance(value, str):
        raise ValueError("text is expected")
    if kind is Path:
        return _path(value)
    if issubclass(kind, Listen | InterfaceAddress | Url | IpfsTarget | NodeName | TagRule | RepositoryPattern):
        return kind.parse(value)
    raise NotImplementedError(kind)


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a path is expected")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path is expected; there is no such home folder") from None


def default_data(environment: Mapping[str, str], root: bool) -> Path:
    """Where blobs go unless told: $XDG_STATE_HOME, else /var/lib for root and ~/.local/state for everyone else."""
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "layermesh"
    if root:
        return Path("/var/lib/layermesh")
    return Path(environment.get("HOME") or os.path.expanduser("~")) / ".local/state/layermesh"  # noqa: PTH111


def default_name() -> str:
    """This machine's host name, without its domain, as far as it makes a node's name."""
    short = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().partition(".")[0]).strip("-._")
    return short[:63] or "node"
