"""What the shell that runs the tests says to layermesh is nothing to them."""

import os

import pytest

from facade.cli.keys import PREFIX


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
