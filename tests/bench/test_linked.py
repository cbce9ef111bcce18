"""What is made of the pulls over a link."""

from pathlib import Path

from tests.bench.context import OURS, Bench
from tests.bench.link import Shape
from tests.bench.measures.linked import DIRECT, Course, Pulls, rows
from tests.bench.pull import Pulled
from tests.bench.rows import Row

COURSE = Course(Shape("1gbit", 5.0), (1,), (1, 1))


def pulled(head_s: float, *first_byte_s: float) -> Pulled:
    return Pulled(1.0, 2, head_s, first_byte_s)


def test_first_layers_stand_on_their_own_and_samples_pair_by_layer() -> None:
    whole: Pulls = {OURS: (pulled(0, 0),), DIRECT: (pulled(0, 0),)}
    even: Pulls = {
        OURS: (pulled(0.011, 0.014, 0.001), pulled(0.012, 0.013, 0.002)),
        DIRECT: (pulled(0.010, 0.010, 0.010), pulled(0.010, 0.010, 0.010)),
    }
    bench = Bench("link", Path(), 1, 1.0, print)

    found = {
        row.what.partition(", over")[0]: row for row in rows(bench, COURSE, whole, even, "") if isinstance(row, Row)
    }

    assert found["HEAD by tag, cold"].ours == (11.0, 12.0)
    assert found["cold layers: first byte"].ours == (14.0, 1.0, 13.0, 2.0)
    assert found["cold first layers: first byte"].ours == (14.0, 13.0)
    assert all(row.bound == 3.0 for what, row in found.items() if "wall time" not in what)
