"""A flag wins over an environment variable, which wins over the file, which wins over the default.

Nothing here changes anything, and only `from_file` reads: the environment is an argument. What nobody knows is refused,
with the nearest known name.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_type_hints

from facade.cli.files import read_file
from facade.cli.keys import CONFIG_VARIABLE, KEYS, PREFIX, Key
from facade.cli.tables import Configuration
from facade.cli.values import Given, merged, nearest, shown, typed
from node.errors import InvalidError

_SECTIONS: Final = get_type_hints(Configuration)
_SERVICE_LINK: Final = re.compile(
    r"(?:^|_)(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)$"
)
"""Variables that Kubernetes sets in every container near a service called layermesh; they are not meant for us."""

Layer = Mapping[Key, Given]


def load(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Configuration:
    """The whole configuration; `flags` by `Key.parameter`, None where a flag was not given.

    Raises:
        InvalidError: one line that names what is wrong, where, and what is allowed or nearest.
    """
    named = environment.get(CONFIG_VARIABLE)
    chosen = file or (Path(named) if named else None)
    layers = (from_file(chosen) if chosen else {}, from_environment(environment), from_flags(flags))
    tables: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for layer in layers:
        for key, given in layer.items():
            value = typed(key, given)
            table = tables[key.section]
            table[key.name] = merged(table.get(key.name, {}), value) if key.name == "upstreams" else value
    return Configuration(**{section: kind(**tables[section]) for section, kind in _SECTIONS.items()})


def from_flags(flags: Mapping[str, object]) -> Layer:
    """What the command line says; a switch says something only when it was written."""
    layer: dict[Key, Given] = {}
    for key in KEYS:
        value = flags.get(key.parameter)
        if key.flag is None or value is None or value == () or value is False:
            continue
        layer[key] = Given(not key.off_flag if key.switch else value, key.flag)
    return layer


def from_environment(environment: Mapping[str, str]) -> Layer:
    """What the variables say; an empty one says nothing.

    Raises:
        InvalidError: for a LAYERMESH_ variable that nobody knows.
    """
    known = {key.variable: key for key in KEYS}
    layer: dict[Key, Given] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if _SERVICE_LINK.search(variable.removeprefix(PREFIX)):
            continue
        if variable not in known:
            hint = nearest(variable, [*known, CONFIG_VARIABLE])
            raise InvalidError(f"environment variable {variable} is not known{hint}")
        if value:
            layer[known[variable]] = Given(value, variable)
    return layer


def from_file(path: Path) -> Layer:
    """What the TOML file says.

    Raises:
        InvalidError: when it cannot be read, is no TOML, or has a section or key that nobody knows.
    """
    layer: dict[Key, Given] = {}
    for section, table in _read(path).items():
        if section not in _SECTIONS:
            raise InvalidError(f"{path}: section [{section}] is not known{nearest(section, _SECTIONS)}")
        if not isinstance(table, dict):
            raise InvalidError(f"{path}: {section} = {shown(table)}: a section [{section}] is expected")
        for name, value in table.items():
            key = _key(section, name, path)
            layer[key] = Given(value, f"{path}: {key.place}", textual=False)
    return layer


def _key(section: str, name: str, path: Path) -> Key:
    here = {key.name: key for key in KEYS if key.section == section}
    if name in here:
        return here[name]
    elsewhere = next((key.place for key in KEYS if key.name == name), None)
    hint = f"; did you mean {elsewhere}?" if elsewhere else nearest(name, here)
    raise InvalidError(f"{path}: [{section}] {name} is not known{hint}")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_file(path).data
    except InvalidError as error:
        raise InvalidError(f"{path}: the configuration file {error}") from None
    try:
        return tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError as error:
        raise InvalidError(f"{path}: this is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise InvalidError(f"{path}: this is not TOML: it is not UTF-8 text") from None
