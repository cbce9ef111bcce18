"""What is written of a run: its table, and for each class of cells what they cost."""

from dataclasses import replace

from tests.facade.matrix.cells import Cell, Outcome, Result, problems
from tests.facade.matrix.report import summary, table
from tests.fakes.runtimes.line import Kind, Observed

WELL = Cell("docker", "fine", "good", member=True)
ILL = Cell("docker", "cuts", "stalls", member=False)
LOST = Cell("podman", "404", "none", member=False)


def _result(direct_s: float, through_s: float, *, ok: bool = True) -> Result:
    stage: Kind | None = None if ok else "blobs"
    observed = Observed(headers_s=through_s / 2)
    return Result(Outcome(direct_s, observed, stage), Outcome(through_s, observed, stage), Outcome(0.5, observed))


def test_each_class_has_its_median_and_its_worst_cell_and_names_those_that_cost_too_much() -> None:
    said = summary({WELL: _result(1.0, 1.25), ILL: _result(2.0, 4.0), LOST: _result(0.0, 1.0, ok=False)}, scale=0.5)
    assert "  no source fails: 1 cells, median 0.250, worst 0.25 docker-fine-good-member; 0 above 1.5 s" in said
    assert "  a source fails: 1 cells, median 2.000, worst 2.00 docker-cuts-stalls-stranger; 1 above 1.5 s" in said
    assert "    2.00 docker-cuts-stalls-stranger" in said
    assert "  until it fails: 1 cells, median 1.000, worst 1.00 podman-404-none; 0 above 1.5 s" in said
    assert "longest wait for headers: 2.00 docker-cuts-stalls-stranger" in said


def test_a_cell_that_was_run_again_with_longer_waits_is_named_with_what_went_wrong_before() -> None:
    said = summary({WELL: replace(_result(1.0, 1.0), hurried=("a good peer has it all",))}, scale=0.25)
    assert said[-1] == "  docker-fine-good-member: a good peer has it all"


def test_a_network_has_a_line_of_its_own_with_what_it_cost_each_runtime() -> None:
    cell = Cell("docker", "fine", "none", member=False, network="kubo-frozen")
    (line,) = [each for each in table({cell: _result(1.0, 1.5)}, scale=0.25).splitlines() if "kubo-frozen" in each][:1]
    assert line.split() == ["kubo-frozen", "+0.50"]


def test_what_a_network_costs_is_limited_and_one_that_gives_nothing_is_no_test() -> None:
    cell = Cell("docker", "fine", "none", member=False, network="kubo-slows-down")
    assert problems(cell, replace(_result(1.0, 3.5), from_network=1)) == []
    assert problems(cell, replace(_result(1.0, 5.5), from_network=1)) == ["it cost 4.50 s"]
    assert problems(cell, replace(_result(1.0, 3.5), from_network=1, scale=0.25)) == ["it cost 2.50 s"]
    assert problems(cell, _result(1.0, 1.5)) == ["the network was not used"]
