"""The order in which sources are asked for a blob, and when to stop waiting for one: pure decisions.

A digest -> CID mapping that somebody else tells us is a hint. A member's is believed: its bytes may go on to the client
while they come. A stranger's is not: its bytes are held until the whole blob agrees with its digest, for as long as
`patience` lasts; then upstream is asked, and only where upstream cannot answer are a stranger's bytes streamed. Where
upstream answers with something else than the blob, a client may do better without us: it gets no unverified byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.cluster import Holder
from node.cid import Cid
from node.visibility import Visibility

MAX_STRANGER_OFFERS = 2


class SourceName(StrEnum):
    """Where the first byte of an answer came from; the words of the `Layermesh-Source` header and of the metrics."""

    LOCAL = "local"
    FLIGHT = "flight"
    PEER = "peer"
    IPFS = "ipfs"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Offer:
    """A source worth asking: peers that name the same CID and size, a file of the IPFS network, or upstream.

    `late`: only where upstream gave nothing, for nobody says that anybody has it, or another is waited for already.
    """

    name: SourceName
    holders: tuple[Holder, ...] = ()
    believed: bool = True
    file: "NetworkFile | None" = None
    late: bool = False

    @property
    def cid(self) -> Cid | None:
        """The mapping that it stands on; None of upstream, which needs none."""
        return self.holders[0].cid if self.holders else self.file.cid if self.file else None


class NetworkName(StrEnum):
    """The IPFS networks that a node may have."""

    KUBO = "kubo"
    GATEWAYS = "gateways"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A blob by its CID, as an IPFS network has it; `here`: this node's own daemon has it, as far as it can be told.

    `awaited`: whether clients get it as it comes, so that it is the network's fault when it comes too slowly.
    """

    cid: Cid
    size: int
    here: bool
    network: NetworkName = NetworkName.KUBO
    awaited: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next: ask `offer`, and whether its bytes may be streamed before the whole is verified.

    `last` when nobody is left to be asked after upstream that is known to have it.
    """

    offer: Offer
    streamed: bool
    last: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """A plan that did not give the blob.

    `impatient` when it was only too slow, `amiss` when it gave something that the blob is not. `pace`: how many bytes a
    second it gave when it was left for its pace, behind its first bytes.
    """

    plan: Plan
    impatient: bool = False
    amiss: bool = False
    pace: float | None = None


UPSTREAM = Offer(SourceName.UPSTREAM)


def offers(holders: Iterable[Holder], size: int | None) -> tuple[Offer, ...]:
    """Group holders by the mapping they name: members' first, then the strangers' most often named.

    Holders that contradict the size known from a descriptor are left out. With members at hand, strangers add nothing.
    """
    groups: dict[tuple[bytes, int], list[Holder]] = {}
    for holder in holders:
        if size is None or holder.size == size:
            groups.setdefault((holder.cid.raw, holder.size), []).append(holder)
    believed = [group for group in groups.values() if any(holder.member for holder in group)]
    strangers = [group for group in groups.values() if not any(holder.member for holder in group)]
    ranked = sorted(strangers, key=len, reverse=True)[:MAX_STRANGER_OFFERS]
    return (
        *(Offer(SourceName.PEER, tuple(group)) for group in sorted(believed, key=len, reverse=True)),
        *(Offer(SourceName.PEER, tuple(group), believed=False) for group in ranked),
    )


def allowed_by(holders: Iterable[Holder]) -> Visibility:
    """Who may see at most what came from these peers, as far as they say."""
    said = {holder.visibility for holder in holders}
    for narrowest in (Visibility.SHARED, Visibility.MEMBERS):
        if narrowest in said:
            return narrowest
    return Visibility.PUBLIC


def next_plan(known: Sequence[Offer], tried: Sequence[Attempt], begun: bool = False) -> Plan | None:
    """The plan worth following now; None when every source has been asked.

    `known` holds the offers of peers and of the IPFS network in order, `begun` says that a client already has bytes,
    which strangers cannot go on with unless upstream fails too. Who was merely too slow comes once more after upstream,
    strangers streamed then, unless upstream did answer; what is late comes only then. Who is left for his pace gives
    way to upstream, for others would have to be waited for as well; and if that is slower still, and nobody else gives
    the blob to its end, upstream comes once more.
    """
    asked = [attempt.plan.offer for attempt in tried]
    paced = [attempt.plan.offer for attempt in tried if attempt.pace is not None]
    for offer in known:
        if offer not in asked and not paced and not offer.late and (offer.believed or not begun):
            return Plan(offer, streamed=offer.believed)
    at = asked.index(UPSTREAM) if UPSTREAM in asked else len(asked)
    done = [*asked[at:], *(attempt.plan.offer for attempt in tried if not attempt.impatient)]
    left = [offer for offer in known if offer not in done]
    if UPSTREAM not in asked:
        believed = [offer for offer in paced if offer.believed]
        return Plan(UPSTREAM, streamed=True, last=all(offer.file and offer not in believed for offer in left))
    if UPSTREAM in paced and asked.count(UPSTREAM) == 1:  # it works, so nothing unverified is shown in its place
        believed = [offer for offer in left if offer.believed]
        return Plan(believed[0], streamed=True) if believed else Plan(UPSTREAM, streamed=True, last=not left)
    return Plan(left[0], streamed=not tried[at].amiss) if left else None


def done_in_time(got_bytes: int, elapsed_s: float, left_bytes: int, left_s: float) -> bool:
    """Whether a fetch that goes on as it began ends within `left_s`."""
    return left_bytes * elapsed_s <= got_bytes * left_s


HELD_BACK_BYTES = 64 * 1024
ALWAYS_VERIFIED_BYTES = 1024 * 1024


def exposed(prefix: int, size: int | None, streamed: bool) -> int:
    """How many bytes of an unverified blob a client may have.

    Nothing of blobs up to 1 MiB (a 200 that is cut at byte 0 kills a containerd pull), never the last piece.
    """
    if size is None or size <= ALWAYS_VERIFIED_BYTES or not streamed:
        return 0
    return max(0, min(prefix, size - HELD_BACK_BYTES))
