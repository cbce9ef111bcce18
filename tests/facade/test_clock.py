"""A clock that is set is noticed, one that merely drifts is not."""

from facade.clock import JUMP_S, ClockWatch


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_clock_that_is_set_is_noticed_once_and_named() -> None:
    wall, steady = _Clock(), _Clock()
    watch = ClockWatch(wall, steady)
    wall.now -= 3600
    assert watch.look() == -3600.0 and "back by 3600 s" in (watch.warning or "")
    assert watch.look() is None


def test_time_that_passes_is_no_jump() -> None:
    wall, steady = _Clock(), _Clock()
    watch = ClockWatch(wall, steady)
    wall.now += 86400 + JUMP_S / 2
    steady.now += 86400
    assert watch.look() is None and watch.warning is None
