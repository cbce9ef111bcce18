"""How samples become a result and a verdict."""

from tests.bench.context import alternate, rotations
from tests.bench.rows import Aim, Row


def test_a_ratio_is_the_median_over_the_rounds_so_drift_of_the_machine_cancels() -> None:
    row = Row("x", "what", "MB/s", (100.0, 50.0, 10.0), Aim.RATIO_AT_LEAST, "peer", (50.0, 25.0, 5.0), 2.0)

    assert row.result == 2.0
    assert row.met is True


def test_a_difference_is_the_median_of_pairs() -> None:
    row = Row("x", "what", "ms", (5.0, 9.0, 30.0), Aim.ABOVE_BY_AT_MOST, "peer", (1.0, 4.0, 29.0), 3.0)

    assert row.result == 4.0
    assert row.met is False


def test_a_row_without_a_target_is_neither_met_nor_missed() -> None:
    assert Row("x", "what", "MB/s", (1.0,), Aim.AT_LEAST).met is None


def test_every_contender_is_once_first_and_the_round_that_warms_up_is_dropped() -> None:
    asked: list[str] = []

    def sampler(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    samples = alternate(2, {"a": lambda: sampler("a"), "b": lambda: sampler("b")})

    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert samples == {"a": (4.0, 5.0), "b": (3.0, 6.0)}
    assert list(rotations(2, ["a", "b", "c"])) == [["a", "b", "c"], ["b", "c", "a"]]
