"""How the process keeps memory."""

import platform

from facade.cli.memory import keep_freed


def test_glibc_takes_the_settings_and_others_are_left_alone() -> None:
    assert keep_freed() is (platform.libc_ver()[0] == "glibc")
