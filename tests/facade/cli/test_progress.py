"""How far long work is: counted always, shown on a terminal alone."""

import io
import sys

import pytest

from facade.cli.progress import counting


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("terminal", "show", "seen"), [(True, True, True), (True, False, False), (False, True, False)])
def test_what_is_done_is_counted_and_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, show: bool, seen: bool
) -> None:
    shown = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with counting("fetching", 3 << 20, show=show) as counted:
        counted.more(1 << 20)
        counted.more(2 << 20)
    assert counted.bytes == 3 << 20
    assert 0 < counted.rate == round(counted.bytes / counted.seconds)
    assert ("fetching" in shown.getvalue()) is seen


def test_a_rate_of_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with counting("sending", None, show=False) as counted:
        assert counted.rate == 0
    assert counted.bytes == 0
