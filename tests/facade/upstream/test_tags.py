"""How much a tag's known meaning counts, by the operator's rules."""

import pytest

from facade.upstream.tags import Rule, TagPolicy, choose
from node.errors import InvalidError
from node.reference import Tag


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("upstream", TagPolicy(Rule.UPSTREAM)),
        ("stale-if-error", TagPolicy(Rule.STALE_IF_ERROR)),
        ("pinned", TagPolicy(Rule.PINNED)),
        ("ttl=90", TagPolicy(Rule.TTL, 90)),
        ("ttl=5m", TagPolicy(Rule.TTL, 300)),
        ("ttl=2d", TagPolicy(Rule.TTL, 172_800)),
    ],
)
def test_a_policy_is_read(text: str, policy: TagPolicy) -> None:
    assert TagPolicy.parse(text) == policy


@pytest.mark.parametrize("text", ["", "ttl", "ttl=", "ttl=-1", "ttl=5 m", "ttl=1w", "Pinned", "ttl=\u0661"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="such as ttl=5m"):
        TagPolicy.parse(text)


@pytest.mark.parametrize(
    ("text", "age_s", "holds_s"),
    [
        ("ttl=60", 0.0, 60.0),
        ("ttl=60", 59.0, 1.0),
        ("ttl=60", 60.0, 0.0),
        ("ttl=60", -1.0, 0.0),
        ("pinned", 1e9, float("inf")),
        ("pinned", -1.0, float("inf")),
        ("upstream", 0.0, 0.0),
        ("stale-if-error", 0.0, 0.0),
    ],
)
def test_how_long_upstream_need_not_be_asked(text: str, age_s: float, holds_s: float) -> None:
    assert TagPolicy.parse(text).holds_s(age_s) == holds_s


def test_the_first_pattern_that_matches_the_whole_tag_counts() -> None:
    policies = tuple(
        (pattern, TagPolicy.parse(rule))
        for pattern, rule in (("v1.*", "pinned"), ("v?", "ttl=1h"), ("*", "upstream"), ("latest", "pinned"))
    )
    chosen = {tag: choose(policies, Tag(tag)).rule for tag in ("v1.2", "v2", "v22", "V1.2", "latest")}
    assert chosen == {"v1.2": "pinned", "v2": "ttl", "v22": "upstream", "V1.2": "upstream", "latest": "upstream"}
    assert choose((), Tag("latest")) == TagPolicy(Rule.STALE_IF_ERROR)
