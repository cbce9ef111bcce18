"""The order of sources, as a function of what is known and what was tried."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.cluster import Holder
from facade.sources import (
    ALWAYS_VERIFIED_BYTES,
    HELD_BACK_BYTES,
    UPSTREAM,
    Attempt,
    NetworkFile,
    NetworkName,
    Offer,
    Plan,
    SourceName,
    done_in_time,
    exposed,
    next_plan,
    offers,
)
from node.cid import Cid
from node.visibility import Visibility

HONEST = Cid.of(b"honest")
LYING = Cid.of(b"lying")


def _holder(name: str, cid: Cid = HONEST, size: int = 10, member: bool = False) -> Holder:
    return Holder(name, name, f"http://{name}", cid, size, member, Visibility.PUBLIC)


def _all_plans(known: tuple[Offer, ...], *, impatient: bool = False, begun: bool = False) -> list[Plan]:
    tried: list[Attempt] = []
    while plan := next_plan(known, tried, begun):
        tried.append(Attempt(plan, impatient=impatient and not plan.streamed))
        assert len(tried) < 50
    return [attempt.plan for attempt in tried]


def test_members_are_asked_before_strangers_and_upstream_last() -> None:
    known = offers([_holder("s", LYING), _holder("m", member=True)], size=10)
    assert [plan.offer.believed for plan in _all_plans(known)] == [True, False, True]
    assert _all_plans(known)[-1].offer is UPSTREAM


def test_a_stranger_is_not_streamed_before_its_bytes_are_verified() -> None:
    plan = next_plan(offers([_holder("s")], 10), [])
    assert plan is not None and not plan.streamed


def test_a_slow_stranger_is_streamed_only_after_upstream_failed() -> None:
    plans = _all_plans(offers([_holder("s")], 10), impatient=True)
    assert [(plan.offer is UPSTREAM, plan.streamed) for plan in plans] == [(False, False), (True, True), (False, True)]


def test_where_upstream_answered_amiss_a_slow_stranger_is_asked_again_and_still_held_back() -> None:
    known = offers([_holder("s")], 10)
    slow = Attempt(Plan(known[0], streamed=False), impatient=True)
    wrong = Attempt(Plan(UPSTREAM, streamed=True), amiss=True)
    assert next_plan(known, [slow, wrong]) == Plan(known[0], streamed=False)
    assert next_plan(known, [slow, wrong, slow]) is None


def test_upstream_is_the_last_unless_a_slow_stranger_is_left() -> None:
    known = offers([_holder("s")], 10)
    slow = Attempt(Plan(known[0], streamed=False), impatient=True)
    assert next_plan(known, [slow]) == Plan(UPSTREAM, streamed=True, last=False)
    assert next_plan(known, [Attempt(slow.plan)]) == Plan(UPSTREAM, streamed=True, last=True)


def test_while_upstream_works_that_was_left_for_its_pace_no_stranger_is_shown_unverified() -> None:
    known = (*offers([_holder("s")], 10), _file())
    slow = Attempt(Plan(known[0], streamed=False), impatient=True)
    network = Attempt(Plan(known[1], streamed=True), impatient=True, pace=3e5)
    upstream = Attempt(Plan(UPSTREAM, streamed=True), impatient=True, pace=1e5)
    tried = [slow, network, upstream]
    assert next_plan(known, tried, begun=True) == Plan(known[1], streamed=True)
    tried.append(Attempt(Plan(known[1], streamed=True)))
    assert next_plan(known, tried, begun=True) == Plan(UPSTREAM, streamed=True, last=False)
    tried.append(Attempt(Plan(UPSTREAM, streamed=True)))
    assert next_plan(known, tried, begun=True) == Plan(known[0], streamed=True), "upstream failed for good"


def test_a_stranger_that_failed_is_not_asked_again() -> None:
    plans = _all_plans(offers([_holder("s")], 10))
    assert [plan.offer is UPSTREAM for plan in plans] == [False, True]


def test_strangers_do_not_go_on_with_a_body_that_has_begun_while_upstream_can() -> None:
    plans = _all_plans(offers([_holder("s")], 10), begun=True)
    assert plans[0].offer is UPSTREAM


def test_a_holder_that_contradicts_the_descriptor_is_not_asked() -> None:
    assert offers([_holder("s", size=11)], size=10) == ()


def test_the_mapping_named_most_often_by_strangers_comes_first() -> None:
    known = offers([_holder("a", LYING), _holder("b"), _holder("c")], size=10)
    assert known[0].holders[0].cid == HONEST


def test_a_stranger_that_names_a_members_mapping_is_asked_with_it() -> None:
    (offer,) = offers([_holder("a"), _holder("m", member=True)], size=10)
    assert offer.believed and len(offer.holders) == 2


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.booleans())
def test_the_last_piece_and_small_blobs_are_never_exposed_unverified(prefix: int, size: int, streamed: bool) -> None:
    may = exposed(min(prefix, size), size, streamed)
    assert 0 <= may <= max(0, size - HELD_BACK_BYTES)
    assert may == 0 or (streamed and size > ALWAYS_VERIFIED_BYTES)


def test_nothing_is_exposed_of_a_blob_of_unknown_size() -> None:
    assert exposed(1 << 30, None, streamed=True) == 0


def test_a_fetch_is_projected_from_how_it_began() -> None:
    assert done_in_time(got_bytes=100, elapsed_s=1, left_bytes=1000, left_s=10)
    assert not done_in_time(got_bytes=100, elapsed_s=1, left_bytes=1001, left_s=10)
    assert not done_in_time(got_bytes=0, elapsed_s=1, left_bytes=1, left_s=10)


def _file(*, believed: bool = True, late: bool = False) -> Offer:
    return Offer(SourceName.IPFS, (), believed, NetworkFile(HONEST, 10, here=False), late)


def test_ipfs_comes_behind_all_peers_and_before_upstream() -> None:
    known = (*offers([_holder("m", member=True), _holder("s", LYING)], 10), _file())
    assert [plan.offer.name for plan in _all_plans(known)] == ["peer", "peer", "ipfs", "upstream"]


def test_what_nobody_says_is_in_ipfs_is_asked_for_behind_upstream_alone() -> None:
    assert [plan.offer.name for plan in _all_plans((_file(late=True),))] == ["upstream", "ipfs"]


def test_ipfs_that_was_too_slow_is_asked_again_where_upstream_failed() -> None:
    slow = Attempt(Plan(_file(), streamed=True), impatient=True)
    failed = Attempt(Plan(UPSTREAM, streamed=True, last=True))
    assert next_plan((_file(),), [slow, failed]) == Plan(_file(), streamed=True)
    assert next_plan((_file(),), [slow, failed, slow]) is None


def test_an_upstream_that_is_silent_is_not_given_up_for_what_ipfs_may_not_have() -> None:
    slow = Attempt(Plan(_file(), streamed=True), impatient=True)
    assert next_plan((_file(), _file(believed=False, late=True)), [slow]) == Plan(UPSTREAM, streamed=True, last=True)


def test_a_strangers_mapping_is_not_streamed_from_ipfs_either() -> None:
    plan = next_plan((_file(believed=False),), [])
    assert plan is not None and not plan.streamed


def _gateways(*, late: bool = False) -> Offer:
    return Offer(SourceName.IPFS, (), True, NetworkFile(HONEST, 10, here=False, network=NetworkName.GATEWAYS), late)


SLOW = Attempt(Plan(_file(), streamed=True), impatient=True, pace=3e5)


def test_what_is_left_for_its_pace_gives_way_to_upstream_and_to_nobody_before() -> None:
    assert next_plan((_file(), _gateways()), [SLOW]) == Plan(UPSTREAM, streamed=True, last=False)


def test_an_upstream_that_is_silent_is_not_given_up_for_what_strangers_named() -> None:
    slow = Attempt(Plan(_file(believed=False), streamed=False), impatient=True, pace=3e5)
    assert next_plan((_file(believed=False),), [slow]) == Plan(UPSTREAM, streamed=True, last=True)


def test_where_upstream_failed_what_was_slow_goes_on_and_then_what_was_passed_over() -> None:
    known, failed = (_file(), _gateways()), Attempt(Plan(UPSTREAM, streamed=True))
    assert next_plan(known, [SLOW, failed]) == Plan(_file(), streamed=True)
    again = Attempt(Plan(_file(), streamed=True))
    assert next_plan(known, [SLOW, failed, again]) == Plan(_gateways(), streamed=True)
    assert next_plan(known, [SLOW, failed, again, Attempt(Plan(_gateways(), streamed=True))]) is None


def test_an_upstream_that_was_slower_still_is_asked_once_more_where_nobody_else_gives_it() -> None:
    slower = Attempt(Plan(UPSTREAM, streamed=True), impatient=True, pace=1e5)
    assert next_plan((_file(),), [SLOW, slower]) == Plan(_file(), streamed=True)
    again = [SLOW, slower, Attempt(Plan(_file(), streamed=True))]
    assert next_plan((_file(),), again) == Plan(UPSTREAM, streamed=True, last=True)
    assert next_plan((_file(),), [*again, Attempt(Plan(UPSTREAM, streamed=True, last=True))]) is None
