"""Every peer as this node sees it: alive or not, believed or not, its log being read, and what went to and fro."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from yarl import URL

from cluster.config import Timings
from cluster.directory.directory import Directory
from cluster.directory.follow import Followed, Follower, Reports
from cluster.membership import Contact, Membership, State
from cluster.penalties import Penalties, Penalty
from cluster.wire import MeshClient

OnEvent = Callable[[str, dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class _Reading:
    peer: Followed
    boot: str
    task: asyncio.Task[None]


class Peers:
    """Reads the log of every live peer that is believed; stops when it is gone or lies."""

    def __init__(
        self,
        membership: Membership,
        penalties: Penalties,
        directory: Directory,
        client: MeshClient,
        timings: Timings,
        on_event: OnEvent,
    ) -> None:
        self.membership = membership
        self.penalties = penalties
        self.directory = directory
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.wake: Callable[[], None] = lambda: None
        self._on_event = on_event
        self._notes: dict[str, str] = {}
        self._readings: dict[str, _Reading] = {}
        self._group: asyncio.TaskGroup | None = None
        self._shown: dict[str, State] = {}
        reports = Reports(self._unreachable, self._lied, self._note, self._too_large)
        self._follower = Follower(client, directory, timings, reports)

    async def run(self) -> None:
        """Read logs until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self.directory.tidy())
            self.reconcile()
            await asyncio.Event().wait()

    def penalty(self, contact: Contact) -> Penalty | None:
        """Why a peer is set aside now."""
        member = contact.identity is not None and contact.identity.member
        return self.penalties.of(contact.url, _now(), member=member)

    def note(self, contact: Contact) -> str | None:
        """What people should know of a peer."""
        identity = contact.identity
        if identity is not None and contact.live:
            found = identity.note or self._notes.get(identity.id) or self.directory.note(identity.id)
            return found or (contact.note if contact.misses else None)
        return contact.note

    def failed(self, url: URL, reason: str) -> None:
        """A peer stalled, cut or refused."""
        self.penalties.failed(url, reason, _now())
        self.membership.doubted(url, _now())
        self._on_event("peer_set_aside", {"url": str(url), "reason": reason, "lied": False})
        self.wake()

    def lied(self, url: URL, reason: str) -> None:
        """A peer sent what cannot be right."""
        self.penalties.lied(url, reason, _now())
        self._on_event("peer_set_aside", {"url": str(url), "reason": reason, "lied": True})
        self.reconcile()

    def crashed(self, url: URL, error: Exception) -> None:
        """Dealing with a peer failed here: a defect of ours, that must not concern others."""
        self._on_event("peer_crashed", {"url": str(url), "error": repr(error), "exception": error})
        self.penalties.failed(url, f"failed here: {type(error).__name__}", _now())

    def reconcile(self) -> None:
        """Begin and end reading logs, as peers come and go."""
        wanted: dict[str, tuple[Followed, str]] = {}
        for contact in self.membership.live():
            identity = contact.identity
            penalty = self.penalty(contact)
            if identity is not None and (penalty is None or not penalty.lied):
                wanted[identity.id] = Followed(identity.id, contact.url, identity.member, identity.pin), identity.boot
        for peer, _ in (wanted[peer_id] for peer_id in wanted.keys() - self._readings.keys()):
            if peer.member:  # a stranger could say so as often as it likes
                self.penalties.returned(peer.url)
        for peer_id, reading in list(self._readings.items()):
            if reading.task.done() or wanted.get(peer_id) != (reading.peer, reading.boot):
                reading.task.cancel()
                del self._readings[peer_id]
        for peer_id, (peer, boot) in wanted.items():
            if peer_id not in self._readings and self._group is not None:
                self._readings[peer_id] = _Reading(peer, boot, self._group.create_task(self._read(peer)))
        self._tidy()

    async def _read(self, peer: Followed) -> None:
        try:
            await self._follower.follow(peer)
        except Exception as error:  # whatever one peer makes us do wrong, the others go on
            self._note(peer, f"reading its log failed here: {type(error).__name__}")
            self.crashed(peer.url, error)

    def _tidy(self) -> None:
        """Forget whom the membership forgot; tell who came and went."""
        known = {c.identity.id: c for c in self.membership.contacts() if c.identity is not None}
        self.directory.keep_only(known)
        for forgotten in self._notes.keys() - known:
            del self._notes[forgotten]
        for counts in (self.received, self.sent):
            for forgotten in counts.keys() - known - {""}:
                counts[""] += counts.pop(forgotten)
        for peer_id, contact in known.items():
            if self._shown.get(peer_id) is not contact.state and contact.identity is not None:
                self._on_event(
                    f"peer_{contact.state}",
                    {"id": peer_id, "name": contact.identity.name, "url": str(contact.url), "why": contact.note},
                )
        self._shown = {peer_id: contact.state for peer_id, contact in known.items()}

    def _unreachable(self, peer: Followed, reason: str) -> None:
        self.membership.doubted(peer.url, _now())
        self._note(peer, f"its log: {reason}")
        self.wake()

    def _lied(self, peer: Followed, reason: str) -> None:
        self.lied(peer.url, reason)

    def _too_large(self, peer_id: str) -> None:
        contact = self.membership.peer(peer_id)
        if contact is not None:
            self.lied(contact.url, "it names more blobs than there is room for")

    def _note(self, peer: Followed, text: str | None) -> None:
        if text is None:
            self._notes.pop(peer.peer_id, None)
        elif text != self._notes.get(peer.peer_id):
            self._notes[peer.peer_id] = text
            self._on_event("peer_noted", {"id": peer.peer_id, "url": str(peer.url), "note": text})


def _now() -> float:
    return asyncio.get_running_loop().time()
