"""Text for people."""

import pytest

from facade.cli.showing import duration, plain, show_table, size


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (None, "-")]
)
def test_sizes_have_a_unit(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (90, "2 min"), (7200, "2.0 h"), (200_000, "2.3 d"), (None, "-")]
)
def test_durations_have_a_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_what_another_machine_calls_itself_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[31m\nb") == "a\ufffd[31m\ufffdb"


def test_a_table_without_a_terminal_is_neither_cut_nor_marked_up(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("NAME", "NOTE"), [("x" * 300, "[red]y[/red]"), (True, None)])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "NOTE"]
    assert first.split() == ["x" * 300, "[red]y[/red]"]
    assert second.split() == ["yes", "-"]
