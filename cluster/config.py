"""What a cluster is told when it is opened; nothing here reads files or the environment."""

from dataclasses import dataclass, field

from yarl import URL


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the cluster waits for what, in seconds."""

    probe_every_s: float = 1.0
    probe_timeout_s: float = 1.0
    reprobe_s: float = 0.25
    """How soon a peer that missed a probe is asked again."""
    greet_timeout_s: float = 3.0
    retry_first_s: float = 0.5
    retry_most_s: float = 10.0
    """Candidates and gone peers are greeted again after waits that double between these two."""
    forget_after_s: float = 3600.0
    """How long a gone peer that nobody announces is still looked for."""
    poll_wait_s: float = 20.0
    """How long a peer may keep a log request open while nothing changes."""
    connect_s: float = 1.0
    stall_s: float = 1.5
    """A body without a byte for so long has stalled."""
    leaf_s: float = 4.0
    """A leaf (1 MiB) that takes longer has stalled as well, however steadily it trickles."""
    hedge_s: float = 0.5
    """A range that shows no new leaf for so long may be fetched from somebody else as well."""
    set_aside_s: float = 10.0
    """How long a peer that stalled, cut or refused is not asked for blobs."""
    liar_s: float = 600.0
    """How long a peer that sent wrong bytes or malformed messages is not asked for anything."""
    mdns_retry_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What others may make us keep or do at most."""

    candidates: int = 1024
    candidates_per_host: int = 16
    """Addresses that one host told us of itself; configured ones and members' do not count."""
    peers: int = 1024
    peers_per_host: int = 64
    entries_per_peer: int = 200_000
    entries: int = 1_000_000
    records_per_peer: int = 1_000_000
    """Records of own repositories, of 2 KB at most, kept because one peer told of them; its log is not read beyond."""
    late_records_per_peer: int = 10_000
    """Records from a clock that is ahead, kept aside until their time has come; a log with more waits for it."""
    polls_per_host: int = 64
    requests_in_flight: int = 4
    """Range requests of one fetch, all peers together."""
    requests_per_peer: int = 2
    leaves_per_request: int = 16
    """As many leaves a range request asks for at most; so that none runs far ahead, and others can take over."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How this node takes part in a cluster.

    `mesh_port` is the port that the mesh listener is really bound to. Without `mdns_interfaces`, mDNS uses every IPv4
    address of this machine that is not loopback. `tls`, which needs a secret: the mesh listener speaks TLS only, and so
    do the peers. `shared`: the registry namespaces whose private content members share, under TLS.
    """

    name: str
    mesh_port: int
    mesh_host: str = "0.0.0.0"
    joins: tuple[URL, ...] = ()
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] = ()
    advertise: str | None = None
    secret: bytes | None = field(default=None, repr=False)
    open_gateway: bool = False
    by_cid: bool = False
    """Whether blobs can be asked for by their roots as well; it takes a third more memory for what peers hold."""
    tls: bool = False
    shared: frozenset[str] = frozenset()
    timings: Timings = Timings()
    limits: Limits = Limits()
