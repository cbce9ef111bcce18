"""Who is alive, as told by events and a clock that the tests turn."""

import heapq
import random
from dataclasses import dataclass, field

import pytest
from yarl import URL

from cluster.config import Limits, Timings
from cluster.membership import Contact, Identity, Membership, Origin, State

TIMINGS = Timings()
ME = Identity("0" * 32, "me", "1" * 32)
URL_A, URL_B = URL("http://10.0.0.1:5051"), URL("http://10.0.0.2:5051")
A = Identity("a" * 32, "a", "a" * 32)


def table(**limits: int) -> Membership:
    return Membership(ME, TIMINGS, Limits(**limits))


def meet(members: Membership, url: URL, identity: Identity, now: float, origin: Origin = Origin.JOIN) -> Contact:
    members.named(url, origin, now)
    contact = next(task.contact for task in members.tasks(now) if task.contact.url == url)
    members.greeted(contact, identity, now)
    return contact


def state_of(contact: Contact) -> State:
    """The state, which the type checker must not take for granted after a call that changes it."""
    return contact.state


def due(members: Membership, now: float) -> list[tuple[URL, bool]]:
    return [(task.contact.url, task.probe) for task in members.tasks(now)]


def test_a_named_address_is_greeted_and_then_probed() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    assert state_of(contact) == State.ALIVE
    assert due(members, 0.5) == []
    assert due(members, 1.0) == [(URL_A, True)]
    assert due(members, 9.0) == [], "one task at a time"


def test_a_refused_connection_ends_a_peer_within_half_a_second() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    members.doubted(URL_A, 0.1)
    assert due(members, 0.1) == [(URL_A, True)]
    members.missed(contact, "refused", 0.1, refused=True)
    assert state_of(contact) == State.SUSPECT
    assert due(members, 0.35) == [(URL_A, True)]
    members.missed(contact, "refused", 0.35, refused=True)
    assert state_of(contact) == State.GONE


def test_a_goodbye_and_a_refused_connection_end_a_peer_at_once() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0, Origin.MDNS)
    members.withdrawn(URL_A, Origin.MDNS, 0.1)
    assert due(members, 0.1) == [(URL_A, True)]
    members.missed(contact, "refused", 0.1, refused=True)
    assert state_of(contact) == State.GONE


def test_a_forged_goodbye_costs_one_probe() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0, Origin.MDNS)
    members.withdrawn(URL_A, Origin.MDNS, 0.1)
    due(members, 0.1)
    assert members.answered(contact, A, 0.1)
    assert state_of(contact) == State.ALIVE
    assert due(members, 1.0) == []


def test_a_peer_that_falls_silent_is_gone_within_five_seconds() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    now = 0.0
    while contact.state is not State.GONE:
        now = max(now, contact.due)
        assert due(members, now) == [(URL_A, True)]
        now += TIMINGS.probe_timeout_s
        members.missed(contact, "no answer in time", now)
    assert now <= 5.0


def test_one_missed_probe_makes_a_peer_suspect_and_an_answer_clears_it() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    due(members, 1.0)
    members.missed(contact, "no answer in time", 2.0)
    assert state_of(contact) == State.SUSPECT
    due(members, 2.25)
    members.answered(contact, A, 2.3)
    assert state_of(contact) == State.ALIVE
    assert contact.misses == 0


def test_a_gone_peer_is_greeted_until_it_is_back() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    due(members, 1.0)
    members.missed(contact, "refused", 1.0, refused=True)
    due(members, 1.25)
    members.missed(contact, "refused", 1.25, refused=True)
    waits = []
    now = contact.due
    for _ in range(8):
        assert due(members, now) == [(URL_A, False)]
        members.failed(contact, "refused", now)
        waits.append(contact.due - now)
        now = contact.due
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    members.tasks(now)
    members.greeted(contact, A, now)
    assert state_of(contact) == State.ALIVE


def test_a_peer_that_greets_us_again_is_greeted_at_once() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    for now in (1.0, 1.25):
        due(members, now)
        members.missed(contact, "refused", now, refused=True)
    members.named(URL_A, Origin.STRANGER, 1.3)
    assert due(members, 1.3) == [(URL_A, False)]


def test_another_start_of_a_peer_is_asked_at_once_and_greeted_anew() -> None:
    members = table()
    contact = meet(members, URL_A, A, 0.0)
    again = Identity(A.id, A.name, "b" * 32)
    members.named(URL_A, Origin.STRANGER, 0.2, boot=again.boot)
    assert state_of(contact) == State.ALIVE, "what a stranger says of it makes us ask, no more"
    assert due(members, 0.2) == [(URL_A, True)]
    assert not members.answered(contact, again, 0.2)
    assert due(members, 0.2) == [(URL_A, False)]
    members.greeted(contact, again, 0.3)
    assert contact.identity == again


def test_this_node_itself_is_no_peer() -> None:
    members = table()
    contact = meet(members, URL_A, ME, 0.0)
    assert members.live() == ()
    assert contact.note == "this node itself"
    assert members.twin is None


def test_a_copy_of_this_nodes_id_is_reported() -> None:
    members = table()
    meet(members, URL_A, Identity(ME.id, "me", "9" * 32), 0.0)
    assert members.twin == URL_A
    assert members.live() == ()


def test_two_nodes_with_one_name_are_two_peers() -> None:
    members = table()
    meet(members, URL_A, Identity("a" * 32, "box", "a" * 32), 0.0)
    meet(members, URL_B, Identity("b" * 32, "box", "b" * 32), 0.0)
    assert len(members.live()) == 2


def test_a_node_with_two_addresses_is_one_peer_and_falls_back_to_the_other() -> None:
    members = table()
    first = meet(members, URL_A, A, 0.0)
    second = meet(members, URL_B, A, 0.0)
    assert [contact.url for contact in members.live()] == [URL_A]
    for now in (1.0, 1.25):
        due(members, now)
        members.missed(first, "refused", now, refused=True)
    assert (URL_B, False) in due(members, 1.25)
    members.greeted(second, A, 1.3)
    assert [contact.url for contact in members.live()] == [URL_B]


def test_who_merely_claims_an_id_does_not_take_it_from_its_owner() -> None:
    members = table()
    meet(members, URL_A, A, 0.0)
    thief = meet(members, URL_B, Identity(A.id, "a", "e" * 32), 0.0)
    assert [contact.url for contact in members.live()] == [URL_A]
    assert thief.note is not None
    assert "claims the id" in thief.note


def test_who_proves_membership_takes_an_id_from_who_did_not() -> None:
    members = table()
    meet(members, URL_A, Identity(A.id, "a", "e" * 32), 0.0)
    meet(members, URL_B, Identity(A.id, "a", "a" * 32, member=True), 0.0)
    assert [contact.url for contact in members.live()] == [URL_B]


def test_a_member_keeps_its_id_against_a_stranger_even_while_set_aside() -> None:
    members = Membership(ME, TIMINGS, Limits(), lambda url: True)
    meet(members, URL_A, Identity(A.id, "a", "a" * 32, member=True), 0.0)
    meet(members, URL_B, Identity(A.id, "a", "e" * 32), 0.0)
    assert [contact.url for contact in members.live()] == [URL_A]


def test_one_host_cannot_fill_the_table_with_addresses() -> None:
    members = table(candidates_per_host=4)
    named = [members.named(URL(f"http://10.9.9.9:{port}"), Origin.STRANGER, 0.0) for port in range(1, 100)]
    assert sum(named) == 4
    assert members.named(URL_A, Origin.STRANGER, 0.0)


def test_many_hosts_cannot_fill_the_table_and_configured_ones_always_find_room() -> None:
    members = table(candidates=50)
    for number in range(500):
        members.named(URL(f"http://10.1.{number // 250}.{number % 250}:1"), Origin.MDNS, 0.0)
    assert len(members.contacts()) == 50
    assert members.named(URL_A, Origin.JOIN, 0.0)


def test_nodes_that_speak_otherwise_cannot_fill_the_table() -> None:
    members = table(candidates=50)
    for number in range(50):
        members.named(URL(f"http://10.1.0.{number}:1"), Origin.STRANGER, 0.0)
    for task in members.tasks(0.0):
        members.speaks_otherwise(task.contact, "it speaks no TLS", 0.0)
    assert members.named(URL_A, Origin.MEMBER, 1.0)
    assert len(members.contacts()) == 50


def test_one_host_cannot_be_all_peers() -> None:
    members = table(peers_per_host=3)
    for port in range(1, 10):
        meet(members, URL(f"http://10.9.9.9:{port}"), Identity(f"{port:032x}", "x", "b" * 32), 0.0, Origin.MDNS)
    assert len(members.live()) == 3


def test_an_address_that_only_a_stranger_named_is_forgotten_after_three_tries() -> None:
    members = table()
    members.named(URL_A, Origin.STRANGER, 0.0)
    now = 0.0
    for _ in range(3):
        (task,) = members.tasks(now)
        members.failed(task.contact, "refused", now)
        now = task.contact.due
    assert members.contacts() == ()


def test_a_probe_without_the_proof_it_gave_before_makes_a_peer_nobody() -> None:
    members = table()
    contact = meet(members, URL_A, Identity(A.id, "a", A.boot, member=True), 0.0)
    due(members, 1.0)
    members.unproven(contact, "the answer carries no proof", 1.0)
    assert members.live() == ()


@dataclass
class World:
    """A thousand nodes on a simulated network: answers take 1 ms, refusals too, silence a timeout."""

    members: Membership
    running: dict[URL, Identity] = field(default_factory=dict)
    silent: set[URL] = field(default_factory=set)
    now: float = 0.0
    probes: int = 0
    answers: list[tuple[float, int, Contact, bool]] = field(default_factory=list)

    def run(self, until: float) -> None:
        answers = self.answers
        while self.now < until:
            for task in self.members.tasks(self.now):
                self.probes += 1
                wait = 1.0 if task.contact.url in self.silent else 0.001
                heapq.heappush(answers, (self.now + wait, self.probes, task.contact, task.probe))
            upcoming = [self.members.next_due(self.now), until]
            if answers:
                upcoming.append(answers[0][0])
            self.now = max(self.now + 1e-6, min(upcoming))
            while answers and answers[0][0] <= self.now:
                _, _, contact, probe = heapq.heappop(answers)
                self._answer(contact, probe)

    def _answer(self, contact: Contact, probe: bool) -> None:
        identity = self.running.get(contact.url)
        if identity is None or contact.url in self.silent:
            refused = contact.url not in self.silent
            if probe:
                self.members.missed(contact, "no answer", self.now, refused=refused)
            else:
                self.members.failed(contact, "no answer", self.now)
        elif probe:
            self.members.answered(contact, identity, self.now)
        else:
            self.members.greeted(contact, identity, self.now)

    @property
    def alive(self) -> set[URL]:
        return {contact.url for contact in self.members.live() if contact.state is State.ALIVE}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_nodes_come_go_fall_silent_and_return(seed: int) -> None:
    order = random.Random(seed)
    world = World(table(peers=2000, candidates=2000))
    urls = [URL(f"http://10.2.{number // 250}.{number % 250 + 1}:5051") for number in range(1000)]
    world.running = {url: Identity(f"{n:032x}", f"n{n}", f"{n:032x}") for n, url in enumerate(urls, 5)}
    for url in urls:
        world.members.named(url, Origin.MDNS, 0.0)
    world.run(5.0)
    assert world.alive == set(urls)
    killed, silenced = set(order.sample(urls, 200)), set(order.sample(urls, 100))
    returning = {url: world.running.pop(url) for url in killed}
    world.silent = silenced
    world.run(40.0)
    assert world.alive == set(urls) - killed - silenced
    world.running.update({url: Identity(i.id, i.name, "f" * 32) for url, i in returning.items()})
    world.silent = set()
    world.run(60.0)
    assert world.alive == set(urls)
    assert world.probes / 60.0 < 150, "probing costs the same however many there are"
