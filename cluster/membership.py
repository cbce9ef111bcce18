"""Which nodes there are and which are alive. Pure: told what happened and when, it says whom to greet or probe next.

A *contact* is an address that somebody named. Greeting it makes it a *peer*: alive; suspect once a probe goes
unanswered; gone after `GONE_AT` misses, where a refused connection counts for two (nobody listens there any more), and
for all of them when the node said goodbye. A peer is gone for good when nobody names it any more; until then it is
greeted again and again. A peer's id belongs to the address that first showed it; another address takes it over when the
first is gone, is set aside, or did not prove membership while the other does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from yarl import URL

from cluster.config import Limits, Timings
from cluster.tls import Pin
from node.ipfs.kubo.multiaddrs import SwarmPeer

GONE_AT: Final = 3
STRANGER_TRIES: Final = 3
PROBES_PER_S: Final = 64
"""With many peers each is probed less often, so that probing costs the same."""


class Origin(StrEnum):
    """Who named an address: the configuration, mDNS, or the node itself when it greeted us."""

    JOIN = "join"
    MDNS = "mdns"
    MEMBER = "member"
    STRANGER = "stranger"


class State(StrEnum):
    """Where a contact stands."""

    CANDIDATE = "candidate"
    ALIVE = "alive"
    SUSPECT = "suspect"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered at an address. `member`: it proved the cluster secret.

    `daemon`: the IPFS daemon beside it. `pin`: how it is known again, under TLS.
    """

    id: str
    name: str
    boot: str
    member: bool = False
    secured: bool = False
    note: str | None = None
    daemon: SwarmPeer | None = None
    pin: Pin | None = None


@dataclass(slots=True)
class Contact:
    """One address and what is known of it. Times are those of the clock passed in."""

    url: URL
    origins: set[Origin] = field(default_factory=set)
    state: State = State.CANDIDATE
    identity: Identity | None = None
    due: float = 0.0
    busy: bool = False
    misses: int = 0
    tries: int = 0
    leaving: bool = False
    last_seen: float | None = None
    note: str | None = None

    @property
    def live(self) -> bool:
        """Whether it answered lately, or is only suspected."""
        return self.state in (State.ALIVE, State.SUSPECT)


@dataclass(frozen=True, slots=True)
class Task:
    """What to do now: greet an address anew, or probe the peer there."""

    contact: Contact
    probe: bool


class Membership:
    """The table of contacts."""

    def __init__(
        self, me: Identity, timings: Timings, limits: Limits, set_aside: Callable[[URL], bool] = lambda url: False
    ) -> None:
        self._me = me
        self._timings = timings
        self._limits = limits
        self._set_aside = set_aside
        self._contacts: dict[URL, Contact] = {}
        self._owners: dict[str, Contact] = {}
        self.twin: URL | None = None
        """An address where another process uses this node's id."""

    def contacts(self) -> tuple[Contact, ...]:
        """Every contact, in the order in which they were named."""
        return tuple(self._contacts.values())

    def peer(self, peer_id: str) -> Contact | None:
        """The contact that an id belongs to."""
        return self._owners.get(peer_id)

    def live(self) -> tuple[Contact, ...]:
        """The peers that are alive or suspect."""
        return tuple(contact for contact in self._owners.values() if contact.live)

    def named(self, url: URL, origin: Origin, now: float, boot: str | None = None) -> bool:
        """Somebody named an address; `boot` when it told which start it is of. False when there is no room for it.

        Saying that a peer was started anew only makes us ask it: anyone could say so.
        """
        contact = self._contacts.get(url)
        if contact is None:
            if not self._room(url, origin, now):
                return False
            contact = self._contacts[url] = Contact(url, due=now)
        elif boot is not None and contact.live and contact.identity is not None and contact.identity.boot != boot:
            contact.due = now
        contact.origins.add(origin)
        if contact.state in (State.CANDIDATE, State.GONE):
            contact.due, contact.tries = min(contact.due, now), 0
        return True

    def withdrawn(self, url: URL, origin: Origin, now: float) -> None:
        """Whoever named an address takes it back, as with mDNS's goodbye: a peer there is asked at once."""
        contact = self._contacts.get(url)
        if contact is None:
            return
        contact.origins.discard(origin)
        contact.leaving = True
        contact.due = now
        if contact.state is State.CANDIDATE and not contact.origins:
            self._forget(contact)

    def doubted(self, url: URL, now: float) -> None:
        """Something else failed with the peer at this address: probe it now."""
        contact = self._contacts.get(url)
        if contact is not None and contact.live:
            contact.due = min(contact.due, now)

    def tasks(self, now: float) -> list[Task]:
        """What is to be done now; each is answered by `greeted`, `failed`, `answered` or `missed`."""
        due = [contact for contact in self._contacts.values() if not contact.busy and contact.due <= now]
        for contact in due:
            contact.busy = True
        return [Task(contact, probe=contact.live) for contact in due]

    def next_due(self, now: float) -> float:
        """When there may be something to do next."""
        waiting = [contact.due for contact in self._contacts.values() if not contact.busy]
        return min(waiting, default=now + 60.0)

    def greeted(self, contact: Contact, identity: Identity, now: float) -> bool:
        """It answered a greeting; True when it is a peer now, False when it is this node, or another name of a peer."""
        contact.busy, contact.tries, contact.last_seen = False, 0, now
        if self._contacts.get(contact.url) is not contact:
            return False
        if identity.id == self._me.id:
            return self._is_me(contact, identity, now)
        owner = self._owners.get(identity.id)
        if owner is not None and owner is not contact and not self._yields(owner, identity):
            same = owner.identity is not None and owner.identity.boot == identity.boot
            contact.note = f"{'the same node as' if same else 'claims the id of the node at'} {owner.url}"
            return self._idle(contact, now)
        if owner is not None and owner is not contact:
            owner.state, owner.identity = State.CANDIDATE, None
            owner.note = f"its id now belongs to {contact.url}"
        elif owner is None and not self._peer_room(contact):
            contact.note = "there are too many peers already"
            return self._idle(contact, now)
        self._release(contact, identity.id)
        self._owners[identity.id] = contact
        contact.identity, contact.state, contact.note = identity, State.ALIVE, identity.note
        contact.misses, contact.leaving = 0, False
        contact.due = now + self._probe_every()
        return True

    def failed(self, contact: Contact, reason: str, now: float) -> None:
        """A greeting failed: try again later, or forget the address when nobody vouches for it."""
        contact.busy = False
        contact.tries += 1
        contact.note = reason
        if contact.identity is not None:
            contact.state = State.GONE
        wait = min(self._timings.retry_first_s * 2 ** min(contact.tries - 1, 16), self._timings.retry_most_s)
        contact.due = now + wait
        vouched = contact.origins & {Origin.JOIN, Origin.MDNS}
        if contact.state is State.GONE:
            forgotten = contact.last_seen is None or now - contact.last_seen > self._timings.forget_after_s
        else:
            forgotten = contact.tries >= STRANGER_TRIES
        if forgotten and not vouched:
            self._forget(contact)

    def speaks_otherwise(self, contact: Contact, reason: str, now: float) -> None:
        """A node answered that can be no peer of this one as both are set up: it is looked at again now and then."""
        contact.busy, contact.last_seen, contact.note = False, now, reason
        contact.tries = 1  # it keeps no room from others
        self._release(contact, None)
        contact.identity, contact.state = None, State.CANDIDATE
        contact.due = now + self._timings.retry_most_s

    def answered(self, contact: Contact, identity: Identity, now: float) -> bool:
        """It answered a probe. False when it is another node, or another start of it: it is greeted anew at once."""
        contact.busy, contact.last_seen = False, now
        known = contact.identity
        if known is None or (known.id, known.boot, known.secured) != (identity.id, identity.boot, identity.secured):
            contact.state, contact.due = State.CANDIDATE, now
            return False
        if not contact.live:
            return False
        contact.state, contact.misses, contact.leaving = State.ALIVE, 0, False
        if known.daemon != identity.daemon:
            contact.identity = replace(known, daemon=identity.daemon)
        contact.due = now + self._probe_every()
        return True

    def missed(self, contact: Contact, reason: str, now: float, *, refused: bool = False) -> None:
        """A probe went unanswered, or was refused by the machine."""
        contact.busy = False
        if not contact.live:
            return
        contact.misses += (GONE_AT if contact.leaving else 2) if refused else 1
        contact.note = reason
        if contact.misses >= GONE_AT:
            contact.state, contact.tries = State.GONE, 0
            contact.due = now + self._timings.retry_first_s
            self._wake_aliases(now)
        else:
            contact.state = State.SUSPECT
            contact.due = now + self._timings.reprobe_s

    def postponed(self, contact: Contact, now: float) -> None:
        """A probe went unanswered, but this process was too busy to tell: ask again."""
        contact.busy, contact.due = False, now

    def unproven(self, contact: Contact, reason: str, now: float) -> None:
        """It answered a probe without the proof it gave before: it is greeted anew, and is nobody until then."""
        contact.busy = False
        contact.state, contact.due, contact.note = State.CANDIDATE, now + self._timings.retry_first_s, reason

    def _is_me(self, contact: Contact, identity: Identity, now: float) -> bool:
        if identity.boot != self._me.boot:
            self.twin = contact.url
            contact.note = "another node has this node's id; was the data folder copied?"
        else:
            contact.note = "this node itself"
        return self._idle(contact, now)

    def _idle(self, contact: Contact, now: float) -> bool:
        """Not a peer of its own: look again now and then, or forget it when only it itself named the address."""
        contact.state, contact.due = State.CANDIDATE, now + 60.0
        self._release(contact, None)
        contact.identity = None
        if not contact.origins & {Origin.JOIN, Origin.MDNS}:
            self._forget(contact)
        return False

    def _yields(self, owner: Contact, claimant: Identity) -> bool:
        if not owner.live or owner.identity is None:
            return True
        if owner.identity.member:
            return False
        return claimant.member or self._set_aside(owner.url)

    def _release(self, contact: Contact, keep: str | None) -> None:
        old = contact.identity
        if old is not None and old.id != keep and self._owners.get(old.id) is contact:
            del self._owners[old.id]

    def _forget(self, contact: Contact) -> None:
        self._release(contact, None)
        if self._contacts.get(contact.url) is contact:
            del self._contacts[contact.url]

    def _wake_aliases(self, now: float) -> None:
        for contact in self._contacts.values():
            if contact.state is State.CANDIDATE and not contact.busy and contact.note is not None:
                contact.due = min(contact.due, now)

    def _probe_every(self) -> float:
        return max(self._timings.probe_every_s, len(self._owners) / PROBES_PER_S)

    def _room(self, url: URL, origin: Origin, now: float) -> bool:
        if origin is Origin.JOIN:
            return True
        waiting = [contact for contact in self._contacts.values() if not contact.live]
        if origin is Origin.STRANGER:
            same = [contact for contact in waiting if contact.url.host == url.host]
            if len(same) >= self._limits.candidates_per_host:
                return False
        if len(waiting) < self._limits.candidates:
            return True
        tried = [contact for contact in waiting if contact.tries and not contact.origins & {Origin.JOIN, Origin.MEMBER}]
        if not tried:
            return False
        self._forget(max(tried, key=lambda contact: contact.tries))
        return True

    def _peer_room(self, contact: Contact) -> bool:
        if contact.origins & {Origin.JOIN, Origin.MEMBER}:
            return True
        live = self.live()
        here = sum(1 for other in live if other.url.host == contact.url.host)
        return len(live) < self._limits.peers and here < self._limits.peers_per_host
