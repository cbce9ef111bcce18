"""What goes wrong with a fake Kubo."""

from dataclasses import dataclass

from node.cid import Cid


@dataclass
class KuboFaults:
    """How it misbehaves; all off unless set. May be changed while it runs."""

    frozen: bool = False
    """Accepts requests and answers none, neither at its RPC nor at its gateway."""
    html: bool = False
    """Something else answers at the RPC's port."""
    gateway_html: bool = False
    """Something else answers at its gateway's port."""
    full: bool = False
    """There is no space left on the device: what is added is refused at its end, and what is to be pinned as well."""
    other_profile: bool = False
    """It does not follow what `add` is told, and makes other CIDs."""
    links: int | None = None
    """So many links a node has, whatever `max-file-links` says."""
    trickle: bool = False
    """It makes trickle DAGs, whatever `trickle` says."""
    version: str = "0.43.0"
    wrong_leaf: Cid | None = None
    """The bytes of this leaf are others than its CID says."""
    cut_upload: bool = False
    """An upload's end is lost before its closing boundary."""
    swarm_s: float = 0.0
    """So long it takes to get a block from another."""
    reset_adds: int = 0
    """So many uploads end with their connection."""
    stat_s: float = 0.0
    """So long it takes to say whether it has a block."""
    no_fetch: bool = False
    """Its gateway looks for nothing in the swarm (`Gateway.NoFetch`), so a body ends where a leaf is missing."""
    freeze_after: int | None = None
    """Once a body gave so many bytes, it is frozen, that body as well."""
    gc_after: int | None = None
    """Once a body gave so many bytes, everything that is not pinned is gone, and what it reads from as well."""
    gone_after: int | None = None
    """Once a body gave so many bytes, it is `gone`, and that body cut."""
    encoded: bool = False
    """Files come encoded from its gateway, though that was not asked for."""
    gone: bool = False
    """Every connection is cut."""
    slow_behind: tuple[int, float] | None = None
    """Behind so many bytes of a body, the rest of it comes at so many bytes a second."""
