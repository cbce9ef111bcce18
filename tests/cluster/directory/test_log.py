"""What a peer's log says, whatever pages it comes in."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.directory.log import PeerLog, line_key
from cluster.messages import BlobLine, DropLine, Line, LogPage, RecordLine, SharedLine, SharedTagLine, TagLine
from node.cid import Cid
from node.digest import Digest
from node.errors import InvalidError
from node.records import stamp_at
from node.reference import Repository, Tag
from node.visibility import Visibility

LOG, OTHER = "1" * 32, "2" * 32
NOW = 1_000_000.0


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def cid(number: int) -> bytes:
    return b"\x01\x55\x12\x20" + number.to_bytes(32, "big")


def blob(seq: int, number: int, visibility: str = "public") -> BlobLine:
    return BlobLine(seq, digest(number), cid(seq), number, visibility)


def tagged(seq: int, tag: str, seen_at: float) -> TagLine:
    return TagLine(seq, "docker.io", "library/x", tag, digest(1), "m", seen_at, 5)


def record(seq: int, name: str, at: float) -> RecordLine:
    return RecordLine(seq, "team/app", "tag", name, digest(1), 5, "", "", "", stamp_at(at), "9" * 32, 0)


def page(lines: Sequence[Line], upto: int | None = None, log: str = LOG, more: bool = False) -> LogPage:
    last = lines[-1].seq if lines else 0
    return LogPage(v=1, log=log, upto=last if upto is None else upto, more=more, lines=list(lines))


class Origin:
    """A node's log with one line a key, as the store keeps it."""

    def __init__(self) -> None:
        self.log, self.seq = LOG, 0
        self.lines: dict[str, Line] = {}

    def say(self, number: int, held: bool) -> None:
        self.seq += 1
        if held:
            self.lines[digest(number)] = blob(self.seq, number)
        elif digest(number) in self.lines:
            self.lines[digest(number)] = DropLine(self.seq, digest(number))

    def start_over(self) -> None:
        self.log, self.seq, self.lines = f"{int(self.log, 16) + 1:032x}", 0, {}

    def page(self, log: str, since: int, limit: int) -> LogPage:
        start = since if log == self.log else 0
        after = sorted((line for line in self.lines.values() if line.seq > start), key=lambda line: line.seq)
        taken = after[:limit]
        more = len(after) > limit
        return page(taken, taken[-1].seq if more else self.seq, self.log, more)


Step = st.tuples(st.just("say"), st.integers(0, 12), st.booleans()) | st.tuples(
    st.sampled_from(["pull", "over"]), st.integers(1, 5), st.booleans()
)


@settings(deadline=None)
@given(st.lists(Step, max_size=80))
def test_a_follower_ends_with_what_the_node_holds(steps: list[tuple[str, int, bool]]) -> None:
    origin, log = Origin(), PeerLog(proven=True)
    kept: dict[str, Line] = {}
    for step, number, flag in [*steps, *[("pull", 3, True)] * 30]:
        if step == "say":
            origin.say(number, flag)
        elif step == "over" and flag:
            origin.start_over()
        else:
            update = log.apply(origin.page(log.log_id, log.since, number), NOW)
            kept = {} if update.fresh else kept
            kept |= {line_key(line): line for line in update.lines}
    held = {line.digest: line.cid for line in origin.lines.values() if isinstance(line, BlobLine)}
    assert {d: h.cid.raw for d in map(digest, range(13)) if (h := log.holding(Digest.parse(d)))} == held
    assert {key: line.cid for key, line in kept.items() if isinstance(line, BlobLine)} == held
    again = PeerLog(proven=True)
    again.load(list(kept.values()))
    assert again.blobs == log.blobs


@pytest.mark.parametrize(
    "wrong",
    [
        page([blob(2, 1), blob(1, 2)]),
        page([blob(1, 1), blob(1, 2)]),
        page([blob(5, 1)], upto=4),
        page([], upto=0, more=True),
        page([blob(0, 1)]),
        page([blob(1, 1), BlobLine(2, "sha256:no", cid(1), 1, "public")]),
        page([blob(1, 1), BlobLine(2, digest(2), b"\x00" * 36, 1, "public")]),
    ],
)
def test_a_page_that_contradicts_itself_changes_nothing(wrong: LogPage) -> None:
    log = PeerLog(proven=False)
    with pytest.raises(InvalidError):
        log.apply(wrong, NOW)
    assert (len(log), log.since) == (0, 0)


def test_a_log_that_lost_its_end_is_read_anew() -> None:
    log = PeerLog(proven=False)
    log.apply(page([blob(1, 1), blob(9, 2)]), NOW)
    update = log.apply(page([], upto=5), NOW)
    assert update.fresh
    assert (len(log), log.since) == (0, 0)


def test_a_strangers_tags_are_not_even_kept() -> None:
    log = PeerLog(proven=False)
    update = log.apply(page([tagged(1, "latest", NOW), blob(2, 1)]), NOW)
    assert not log.tags
    assert [line_key(line) for line in update.lines] == [digest(1)]


CORP, ITS_OTHER = Repository("corp.test", "team/app"), Repository("corp.test", "team/other")


def shared(seq: int, number: int, repository: Repository = CORP, *, held: bool = True) -> SharedLine:
    raw, size = (cid(number), number) if held else (b"", 0)
    return SharedLine(seq, repository.namespace, repository.name, digest(number), raw, size)


def shared_tag(seq: int, tag: str) -> SharedTagLine:
    return SharedTagLine(seq, CORP.namespace, CORP.name, tag, digest(1), "m", NOW, 5)


def test_what_is_shared_counts_for_its_own_repository_alone() -> None:
    log, named = PeerLog(True, frozenset({"corp.test"})), Digest.parse(digest(1))
    update = log.apply(page([shared(1, 1), shared_tag(2, "latest")]), NOW)
    assert log.holding(named) is None and log.holding(named, [ITS_OTHER]) is None
    found = log.holding(named, [ITS_OTHER, CORP])
    assert found is not None and (found.visibility, found.cid.raw) == (Visibility.SHARED, cid(1))
    assert [one.cid.raw for one in log.named(named)] == [cid(1)]
    assert (CORP, Tag("latest")) in log.tags and len(log) == 2
    again = PeerLog(True, frozenset({"corp.test"}))
    again.load(update.lines)
    assert (again.shared, again.tags) == (log.shared, log.tags)


def test_what_is_withdrawn_of_one_repository_stays_for_another() -> None:
    log, named = PeerLog(True, frozenset({"corp.test"})), Digest.parse(digest(1))
    log.apply(page([shared(1, 1), shared(2, 1, ITS_OTHER), blob(3, 2)]), NOW)
    log.apply(page([shared(4, 1, held=False), DropLine(5, digest(1))]), NOW)
    assert log.holding(named, [CORP]) is None and log.holding(named, [ITS_OTHER]) is not None
    assert len(log) == 2
    log.apply(page([shared(6, 1, ITS_OTHER, held=False), shared(7, 9, held=False)]), NOW)
    assert not log.shared and len(log) == 1
    log.apply(page([shared(8, 1), shared(9, 1, ITS_OTHER)]), NOW)
    log.drop(named)
    assert not log.shared and len(log) == 1


@pytest.mark.parametrize(("proven", "shares"), [(False, {"corp.test"}), (True, set()), (True, {"other.test"})])
def test_what_is_shared_is_not_even_kept_where_it_may_not_be_used(proven: bool, shares: set[str]) -> None:
    log = PeerLog(proven, frozenset(shares))
    update = log.apply(page([shared(1, 1), shared_tag(2, "latest")]), NOW)
    assert (len(log), update.lines) == (0, ())


def test_a_stranger_cannot_speak_for_members() -> None:
    log = PeerLog(proven=False)
    log.apply(page([blob(1, 1, "members")]), NOW)
    assert log.holding(Digest.parse(digest(1))) is None


@pytest.mark.parametrize("seen_at", [NOW + 61, NOW + 86_400, math.inf, math.nan, -1.0])
def test_a_tag_from_the_future_is_ignored_also_when_its_day_comes(seen_at: float) -> None:
    log = PeerLog(proven=True)
    log.apply(page([tagged(1, "latest", seen_at)]), NOW)
    assert not log.tags


def test_a_members_tag_within_a_minute_of_now_is_kept() -> None:
    log = PeerLog(proven=True)
    log.apply(page([tagged(1, "latest", NOW + 59)]), NOW)
    assert len(log.tags) == 1


def test_a_record_from_the_future_counts_once_when_its_time_has_come() -> None:
    log, first = PeerLog(proven=True), page([record(1, "now", NOW), record(2, "later", NOW + 3600)])
    assert [each.name for each in log.records(first, NOW)] == ["now"]
    update = log.apply(first, NOW)
    assert [line_key(line) for line in update.lines] == ["record team/app/tag/later"]
    again = PeerLog(proven=True, log_id=LOG, since=2)
    again.load(update.lines)
    for each in (log, again):
        nothing = page([], upto=2)
        assert each.records(nothing, NOW) == []
        assert [one.name for one in each.records(nothing, NOW + 3600)] == ["later"]
        assert each.apply(nothing, NOW + 3600).gone == ("record team/app/tag/later",)
        assert each.records(nothing, NOW + 3600) == []


def test_what_is_told_again_replaces_a_record_from_the_future() -> None:
    log = PeerLog(proven=True)
    log.apply(page([record(1, "v1", NOW + 3600)]), NOW)
    second = page([record(2, "v1", NOW)])
    assert len(log.records(second, NOW)) == 1
    assert log.apply(second, NOW).gone == ("record team/app/tag/v1",)
    assert log.records(page([], upto=2), NOW + 3600) == []


def test_a_stranger_has_no_record_kept_aside_either() -> None:
    log = PeerLog(proven=False)
    assert log.apply(page([record(1, "v1", NOW + 3600)]), NOW).lines == ()
    assert not log.late


def test_a_malformed_record_from_the_future_is_refused_at_once() -> None:
    log, wrong = PeerLog(proven=True), record(1, "-x", NOW + 3600)
    with pytest.raises(InvalidError):
        log.apply(page([wrong]), NOW)
    assert not log.late


def test_a_holding_is_found_by_its_root_for_as_long_as_it_lasts() -> None:
    log = PeerLog(proven=False, roots={})
    log.apply(page([blob(1, 7), blob(2, 8)]), NOW)
    found = log.rooted(Cid(cid(1)))
    assert found is not None and (str(found.digest), found.size) == (digest(7), 7)
    log.apply(page([BlobLine(3, digest(7), cid(33), 7, "public"), DropLine(4, digest(8))]), NOW)
    assert log.rooted(Cid(cid(1))) is None
    assert log.rooted(Cid(cid(33))) is not None
    assert log.rooted(Cid(cid(2))) is None
    log.forget()
    assert log.rooted(Cid(cid(33))) is None and log.roots == {}


def test_roots_cost_nothing_where_nobody_asks_by_them() -> None:
    log = PeerLog(proven=False)
    log.apply(page([blob(1, 7)]), NOW)
    assert log.roots is None and log.rooted(Cid(cid(1))) is None


def test_a_blob_by_two_digests_is_found_by_the_one_named_last() -> None:
    log = PeerLog(proven=False, roots={})
    longer = f"sha512:{9:0128x}"
    log.apply(page([BlobLine(1, digest(9), cid(5), 3, "public"), BlobLine(2, longer, cid(5), 3, "public")]), NOW)
    found = log.rooted(Cid(cid(5)))
    assert found is not None and str(found.digest) == longer


def test_what_is_shared_with_a_repository_is_so_although_members_have_it_anyway() -> None:
    log = PeerLog(proven=True, shares=frozenset({"corp.test"}))
    shared = [SharedLine(seq, "corp.test", "team/x", digest(seq), cid(seq), 3) for seq in (1, 2)]
    log.apply(
        page([*shared, BlobLine(3, digest(1), cid(1), 3, "members"), BlobLine(4, digest(2), cid(2), 3, "public")]), NOW
    )
    at = [(number, name) for number in (1, 2) for name in ("team/x", "team/y")]
    found = [log.holding(Digest.parse(digest(number)), (Repository("corp.test", name),)) for number, name in at]
    assert [each and each.visibility for each in found] == ["shared", "members", "public", "public"]
