"""An upstream that failed is put aside for a while."""

from facade.upstream.aside import Aside


def test_a_failure_puts_aside_until_the_time_is_over() -> None:
    now = 100.0
    aside = Aside(5.0, lambda: now)
    assert aside.available("a")
    aside.failed("a")
    assert not aside.available("a")
    assert aside.available("b")
    now = 105.0
    assert aside.available("a")


def test_an_answer_brings_back_at_once() -> None:
    aside = Aside(5.0, lambda: 0.0)
    aside.failed("a")
    aside.answered("a")
    assert aside.available("a")
