"""Who is set aside, why, and for how long."""

from yarl import URL

from cluster.config import Timings
from cluster.penalties import LIARS_PER_HOST, Penalties

TIMINGS = Timings(set_aside_s=10.0, liar_s=600.0)
A, B = URL("http://10.0.0.1:1"), URL("http://10.0.0.2:1")


def test_who_failed_is_back_soon_and_who_lied_late() -> None:
    given = Penalties(TIMINGS)
    given.failed(A, "it stalled", 0.0)
    given.lied(B, "wrong bytes", 0.0)
    assert [given.of(url, 9.0, member=False) is not None for url in (A, B)] == [True, True]
    assert [given.of(url, 11.0, member=False) is not None for url in (A, B)] == [False, True]
    assert given.of(B, 601.0, member=False) is None


def test_who_returns_owes_nothing_but_for_lies() -> None:
    given = Penalties(TIMINGS)
    given.failed(A, "it stalled", 0.0)
    given.lied(B, "wrong bytes", 0.0)
    for url in (A, B):
        given.returned(url)
    assert [given.of(url, 1.0, member=True) is not None for url in (A, B)] == [False, True]


def test_a_failure_does_not_shorten_a_liars_time() -> None:
    given = Penalties(TIMINGS)
    given.lied(A, "wrong bytes", 0.0)
    given.failed(A, "it stalled", 1.0)
    penalty = given.of(A, 100.0, member=False)
    assert penalty is not None
    assert penalty.reason == "wrong bytes"


def test_a_host_whose_peers_lie_again_and_again_is_set_aside_but_for_members() -> None:
    given = Penalties(TIMINGS)
    for port in range(10, 10 + LIARS_PER_HOST):
        given.lied(URL(f"http://10.0.0.1:{port}"), "wrong bytes", 0.0)
    assert given.of(A, 1.0, member=False) is not None
    assert given.of(A, 1.0, member=True) is None
    assert given.of(B, 1.0, member=False) is None


def test_the_table_is_bounded() -> None:
    given = Penalties(TIMINGS)
    for port in range(1, 10_000):
        given.failed(URL(f"http://10.0.0.1:{port}"), "it stalled", float(port) / 1000)
    assert given.of(URL("http://10.0.0.1:9999"), 10.0, member=False) is not None
