"""The waits fit into one another as they are by default, and shorter ones that are scaled do too."""

from cluster.config import Timings
from facade.settings import Waits
from facade.upstream.wire import Limits

MOST_S = 3.0
"""What a failing source may cost a pull (seconds)."""
MARGIN_S = 0.5
"""For what is done between two waits."""


def test_a_failing_source_costs_a_mirrors_client_no_more_than_the_promise() -> None:
    assert Waits().handover_s < MOST_S
    assert Waits().look_s + MARGIN_S < MOST_S
    assert Timings().stall_s + MARGIN_S < MOST_S
    assert Waits().pace_s + MARGIN_S < MOST_S


def test_what_else_is_known_of_a_tag_is_served_before_a_client_is_sent_away() -> None:
    assert Waits().fallback_s + MARGIN_S < Waits().handover_s


def test_an_upstream_that_was_waited_for_in_vain_opens_its_breaker() -> None:
    assert Limits().connect_s + MARGIN_S <= Waits().fallback_s


def test_a_body_that_stalls_goes_on_elsewhere_before_its_client_is_cut() -> None:
    assert Limits().stall_s + Limits().hurry_s + MARGIN_S < Waits().progress_s
