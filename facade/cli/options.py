"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from facade.cli.keys import CONFIG_VARIABLE, KEYS, Key
from facade.cli.tables import Configuration, Listen

_Command = TypeVar("_Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
config_option = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help=f"Configuration file (TOML) [{CONFIG_VARIABLE}]"
)


def key_options(*flags: str) -> Callable[[_Command], _Command]:
    """The flags of these settings, or of all; their values are checked with the rest of the configuration."""

    def add(command: _Command) -> _Command:
        for key in reversed(KEYS):
            if key.flag and (not flags or key.flag in flags):
                attributes: dict[str, Any] = {"is_flag": True} if key.switch else {"metavar": key.metavar}
                text = f"{key.text[0].upper()}{key.text[1:]} [{key.variable}]{_default(key)}"
                command = click.option(key.flag, key.parameter, multiple=key.repeatable, help=text, **attributes)(
                    command
                )
        return command

    return add


def _default(key: Key) -> str:
    value = getattr(getattr(Configuration(), key.section), key.name)
    return f" [default: {value}]" if isinstance(value, Listen) else ""
