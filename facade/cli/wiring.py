"""What an operator wrote becomes what each part is told: the checks that span several settings."""

import ssl
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from yarl import URL

from cluster.config import ClusterConfig
from facade.cli.files import read_file
from facade.cli.guarding import Guarding, check_exposure, read_guarding
from facade.cli.tables import ClusterTable, Configuration, NodeTable, UpstreamTable, default_data, default_name
from facade.cli.values import shown
from facade.settings import Address, FacadeSettings
from facade.upstream.config import BUILT_IN, Access, Share, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials, CredentialsSource, parse_credentials
from facade.upstream.keyring import CredentialsFile
from facade.upstream.tags import TagPolicy
from node.errors import InvalidError, StartError
from node.ipfs.ipfshttpclient import check_installed
from node.ipfs.kubo.endpoint import Client, Endpoint, parse_authorization, parse_rpc

SHORTEST_SECRET: Final = 16
LONGEST_SECRET: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything that a node is told when it starts; `cluster` gets its port once the mesh listener is bound."""

    name: str
    data: Path
    mesh: Address
    facade: FacadeSettings
    cluster: ClusterConfig
    credentials: CredentialsSource
    tls: Mapping[str, ssl.SSLContext]
    """By namespace, for those that have an authority of their own."""
    guarding: Guarding
    kubo: Endpoint | None
    """The Kubo that stands for the IPFS network; None for the embedded one."""
    gateways: tuple[URL, ...] = ()
    """IPFS gateways that are asked for public blobs."""

    def addresses(self) -> dict[str, Address | None]:
        """The listeners by name; None for one that is off."""
        return {
            "facade": self.facade.facade,
            "docker-mirror": self.facade.docker_mirror,
            "kubo-sidecar": self.facade.kubo_sidecar,
            "mesh": self.mesh,
            "admin": self.facade.admin,
        }


def wire(configuration: Configuration, environment: Mapping[str, str], *, root: bool) -> Wiring:
    """Map the configuration to the parts; reads the secret, the credentials, the users and the certificate.

    Raises:
        StartError, InvalidError: one line that says what to change.
    """
    cluster, facade = configuration.cluster, configuration.facade
    settings = FacadeSettings(
        facade=facade.listen.address,
        docker_mirror=facade.docker_mirror.address if facade.docker_mirror else None,
        admin=configuration.admin.listen.address,
        kubo_sidecar=facade.kubo_sidecar.address if facade.kubo_sidecar else None,
        insecure=facade.insecure,
        upstreams=upstreams(facade.upstreams),
    )
    guarding = read_guarding(facade)
    check_exposure(settings, guarding)
    check_tls(cluster)
    name = str(configuration.node.name or default_name())
    return Wiring(
        name=name,
        data=(configuration.node.data or default_data(environment, root)).absolute(),
        mesh=cluster.listen.address,
        facade=settings,
        cluster=ClusterConfig(
            name=name,
            mesh_port=cluster.listen.address.port,
            mesh_host=cluster.listen.address.host,
            joins=tuple(URL(url) for url in cluster.join),
            mdns=cluster.mdns,
            mdns_interfaces=tuple(str(address) for address in cluster.mdns_interface),
            advertise=str(cluster.advertise) if cluster.advertise else None,
            secret=read_secret(cluster.secret_file) if cluster.secret_file else None,
            open_gateway=cluster.open_gateway,
            by_cid=settings.kubo_sidecar is not None,
            tls=cluster.tls,
            shared=shared(settings.upstreams, cluster),
        ),
        credentials=watch_credentials(facade.credentials) if facade.credentials else NO_CREDENTIALS,
        tls={
            namespace: read_authority(table.ca_file)
            for namespace, table in facade.upstreams.items()
            if table.ca_file is not None
        },
        guarding=guarding,
        kubo=kubo_endpoint(configuration.node),
        gateways=tuple(_gateway(url) for url in configuration.node.gateways),
    )


def _gateway(text: str) -> URL:
    """The address of an IPFS gateway.

    Raises:
        InvalidError: when there is more in it than a host, a port and a path.
    """
    url = URL(text)
    if url.user or url.password or url.query_string or url.fragment:
        raise InvalidError(f"gateway {url.with_user(None)}: http(s)://HOST[:PORT][/PATH] is expected, without a login")
    return url


def kubo_endpoint(table: NodeTable) -> Endpoint | None:
    """The Kubo that is named, with its login; None for the embedded network.

    Raises:
        StartError: when a file cannot be read, others can read the login, or a library is not installed.
        InvalidError: naming what is wrong, never a secret.
    """
    network, _, rpc = table.ipfs.partition("=")
    if network not in list(Client):
        for name in ("ipfs_auth_file", "ipfs_ca_file", "ipfs_gateway"):
            if getattr(table, name) is not None:
                raise InvalidError(f"[node] {name} is for a Kubo: name that with --ipfs kubo=URL")
        return None
    client = Client(network)
    if client is Client.IPFSHTTPCLIENT:
        check_installed()
        if table.ipfs_gateway is not None:
            raise InvalidError("[node] ipfs_gateway is for --ipfs kubo=URL: ipfshttpclient reads by the RPC alone")
    url, socket = parse_rpc(rpc)
    if table.ipfs_gateway is not None and URL(table.ipfs_gateway).scheme != "http":
        raise InvalidError(f"[node] ipfs_gateway = {shown(table.ipfs_gateway)}: http://HOST:PORT is expected")
    return Endpoint(
        url,
        socket,
        authorization=read_kubo_login(table.ipfs_auth_file) if table.ipfs_auth_file else None,
        tls=read_authority(table.ipfs_ca_file) if table.ipfs_ca_file else None,
        gateway=URL(table.ipfs_gateway).origin() if table.ipfs_gateway else None,
        client=client,
    )


def read_kubo_login(path: Path) -> str:
    """The header for the login that a file holds.

    Raises:
        StartError: when it cannot be read, or everybody can.
        InvalidError: when it holds no login.
    """
    try:
        data, mode = read_file(path, LONGEST_SECRET)
    except InvalidError as error:
        raise StartError(f"login file {path}: it {error}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise StartError(f"login file {path}: everybody on this machine can read or write it: chmod 600 {path}")
    try:
        return parse_authorization(data.decode("ascii", "replace"))
    except InvalidError as error:
        raise InvalidError(f"login file {path}: {error}") from None


def upstreams(tables: Mapping[str, UpstreamTable]) -> tuple[UpstreamConfig, ...]:
    """The built-in registries as far as nothing else was said, and those that were added.

    Raises:
        InvalidError: when a namespace is malformed, or a new one has no endpoint.
    """
    configs = {config.namespace: config for config in BUILT_IN}
    for namespace, table in tables.items():
        built_in = configs.get(namespace)
        if table.endpoint is not None:
            public = built_in.public if built_in else False
            config = UpstreamConfig.parse(namespace, *table.endpoint, public=public)
        elif built_in is not None:
            config = built_in
        else:
            raise InvalidError(f'[facade.upstreams."{namespace}"] endpoint is missing: it is no built-in registry')
        configs[namespace] = replace(
            config,
            public=config.public if table.public is None else table.public,
            access=config.access if table.access is None else Access(table.access),
            share=config.share if table.share is None else Share(table.share),
            tags=tuple((pattern, TagPolicy.parse(rule)) for pattern, rule in (table.tags or {}).items()),
        )
    return tuple(configs.values())


def check_tls(cluster: ClusterTable) -> None:
    """Refuse TLS between nodes that could not know each other, and addresses that do not go with it.

    Raises:
        StartError: naming the setting, and what it needs.
    """
    if not cluster.tls:
        return
    if cluster.secret_file is None:
        raise StartError(
            "[cluster] tls = true needs a secret, by which nodes know each other's certificates: set [cluster]"
            " secret_file (--secret-file) as well"
        )
    for setting, urls in {"join": cluster.join, "advertise": filter(None, [cluster.advertise])}.items():
        for url in urls:
            if URL(url).scheme != "https":
                raise StartError(
                    f"[cluster] {setting} {url}: with [cluster] tls = true nodes are reached by https://HOST:PORT"
                )


def shared(configs: Iterable[UpstreamConfig], cluster: ClusterTable) -> frozenset[str]:
    """The namespaces whose private content members share.

    Raises:
        StartError: when the members could not be told from others, or there is nothing to share.
    """
    namespaces = [config for config in configs if config.share is Share.CLUSTER]
    for config in namespaces:
        where = f'[facade.upstreams."{config.namespace}"] share = "cluster"'
        if not cluster.tls:
            raise StartError(f"{where} sends private content to members: it needs [cluster] tls = true and secret_file")
        if config.access is Access.REFUSE:
            raise StartError(
                f'{where} goes with access = "credentials" or "passthrough": with "refuse" nothing private is fetched'
            )
    return frozenset(config.namespace for config in namespaces)


def read_secret(path: Path) -> bytes:
    """The cluster secret; white space around it does not count.

    Raises:
        StartError: when it cannot be read, others than its owner and group can, or it is too short.
    """
    try:
        data, mode = read_file(path, LONGEST_SECRET)
    except InvalidError as error:
        raise StartError(f"secret file {path}: it {error}") from None
    secret = data.strip()
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise StartError(f"secret file {path}: everybody on this machine can read or write it: chmod 600 {path}")
    if mode & stat.S_IWGRP:
        raise StartError(f"secret file {path}: its group can write it: chmod 600 {path}")
    if len(secret) < SHORTEST_SECRET:
        raise StartError(
            f"secret file {path}: {len(secret)} bytes are too short, at least {SHORTEST_SECRET} are needed:"
            f" (umask 077; head -c 32 /dev/urandom | base64 > {path}) makes one"
        )
    return secret


def read_authority(path: Path) -> ssl.SSLContext:
    """What is trusted of an upstream: the certificates of this PEM file, besides the system's.

    Raises:
        StartError: when it cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=read_file(path).data.decode("ascii"))
    except InvalidError as error:
        raise StartError(f"CA file {path}: it {error}") from None
    except (ValueError, ssl.SSLError):
        raise StartError(f"CA file {path}: it holds no certificate in PEM form") from None
    return context


def watch_credentials(path: Path) -> CredentialsFile:
    """The logins of a Docker `config.json`, and of what becomes of it while the node runs.

    Raises:
        StartError, InvalidError: as `read_credentials`.
    """
    path = path.absolute()
    return CredentialsFile(path, read_credentials(path), read_credentials, time.monotonic)


def read_credentials(path: Path) -> Credentials:
    """The logins of a Docker `config.json`; an empty file holds none.

    Raises:
        StartError: when the file cannot be read, a missing one included.
        InvalidError: naming the file and what is wrong in it, never a secret.
    """
    try:
        data = read_file(path).data
    except InvalidError as error:
        raise StartError(f"credentials file {path}: it {error}") from None
    try:
        return parse_credentials(data)
    except InvalidError as error:
        raise InvalidError(f"credentials file {path}: {error}") from None
