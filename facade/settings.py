"""What the facade may be told: addresses, and how long anyone waits for anything."""

from dataclasses import dataclass, field

from facade.upstream.config import BUILT_IN, UpstreamConfig


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Waits:
    """Every limit on waiting that a client can feel, in seconds."""

    patience_s: float = 20.0
    """How long headers of a blob may wait (newer containerd gives up after 30)."""
    strangers_s: float = 15.0
    """How much of that strangers get for a blob to be fetched and verified whole, before upstream is asked."""
    look_s: float = 1.0
    """When strangers are looked at: those that would not be done in time are given up for upstream then."""
    answer_s: float = 5.0
    """How long headers may wait otherwise."""
    fallback_s: float = 2.0
    """How long upstream may take while something else could answer in its place."""
    handover_s: float = 2.8
    """How long upstream may be silent before a runtime that can go there itself is sent there."""
    swarm_s: float = 0.25
    """How long the IPFS network may take for a blob's first byte while upstream has not been asked."""
    pace_s: float = 2.0
    """Over how long the pace of an IPFS network is measured: what is slow for so long gives way to upstream."""
    nearby_s: float = 1.0
    """How long peers may take for a manifest that upstream could give as well."""
    progress_s: float = 5.0
    """How long a body may sit without a byte before it is cut."""
    confirmed_s: float = 60.0
    """How long upstream's word that it has a manifest lets us answer it with blobs that are not here."""
    stale_tag_s: float = 7 * 86400.0
    """How old a tag observation may be that is served while upstream cannot answer."""
    proof_s: float = 86400.0
    """How long an anonymous read upstream proves that a manifest is public."""

    def silent_s(self, *, is_mirror: bool) -> float:
        """How long a client waits for an upstream that gives nothing yet; who comes to a mirror can go there itself."""
        return min(self.handover_s, self.patience_s) if is_mirror else self.patience_s


@dataclass(frozen=True, slots=True)
class FacadeSettings:
    """The facade's own configuration; every default lives here."""

    facade: Address = Address("127.0.0.1", 5050)
    docker_mirror: Address | None = Address("127.0.0.1", 5053)
    admin: Address = Address("127.0.0.1", 5052)
    kubo_sidecar: Address | None = None
    insecure: bool = False
    upstreams: tuple[UpstreamConfig, ...] = tuple(BUILT_IN)
    waits: Waits = field(default_factory=Waits)
