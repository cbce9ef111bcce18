"""Raw values become typed ones, or one line that says what is allowed."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from facade.cli.keys import Key
from facade.cli.tables import AccessTable, Configuration, Listen, TagRule, UpstreamTable, Url, decode
from node.errors import InvalidError

_LOGIN: Final = re.compile(r"""//[^\s'"]*@""")
_RULES_AS_JSON: Final = 'JSON such as [{"repositories": ["team/*"], "read": ["*"], "write": ["alice"]}]'


@dataclass(frozen=True, slots=True)
class Given:
    """A raw value, and what the operator calls the place it came from.

    A textual one is from a flag or a variable, where lists are written with commas or spaces.
    """

    value: object
    where: str
    textual: bool = True


def typed(key: Key, given: Given) -> Any:
    """The value of one key, as its table has it.

    Raises:
        InvalidError: naming the place, the value and what is allowed.
    """
    if key.name == "upstreams":
        return _upstreams(given)
    if key.name == "access":
        return _rules(given)
    kind = _hints(_hints(Configuration)[key.section])[key.name]
    value = given.value
    if _may_be_off(kind) and (value == "off" or value is False):
        return None
    if key.on is not None and (value == "on" or value is True):
        value = key.on
    if given.textual and get_origin(kind) is tuple:
        value = _words(value)
    return _converted(kind, value, given.where, strict=not given.textual)


def merged(lower: Mapping[str, UpstreamTable], upper: Mapping[str, UpstreamTable]) -> dict[str, UpstreamTable]:
    """Two layers of registries: what the upper one leaves out of a registry, the lower one says."""
    result = dict(lower)
    for namespace, table in upper.items():
        said = {name: value for name, value in msgspec.structs.asdict(table).items() if value is not None}
        result[namespace] = msgspec.structs.replace(result.get(namespace, UpstreamTable()), **said)
    return result


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a refusal: the known name that is nearest, or all of them where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def shown(value: object) -> str:
    """A value as it is quoted in a refusal: short, on one line, without the login that a URL may have."""
    text = str(value).lower() if isinstance(value, bool) else _LOGIN.sub("//...@", repr(value))
    return text if len(text) <= 100 else text[:97] + "..."


def _converted(kind: Any, value: object, where: str, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, kind, dec_hook=decode, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{where} = {shown(value)}: {_expected(kind, str(error))}") from None


def _expected(kind: Any, complaint: str) -> str:
    """What is allowed: the complaint of the type's own parser, or what the type is."""
    complaint = complaint.partition(" - at ")[0]
    if not complaint.startswith(("Expected", "Invalid")):
        return f"{complaint}, or off" if _may_be_off(kind) else complaint
    choices = [text for part in (kind, *get_args(kind)) for text in get_args(part) if isinstance(text, str)]
    if choices:
        return f"{' or '.join(choices)} is expected"
    if bool in (kind, *get_args(kind)):
        return "true or false is expected"
    return "a list of texts is expected" if get_origin(kind) is tuple else "text is expected"


def _upstreams(given: Given) -> dict[str, UpstreamTable]:
    """The registries of one layer, each with only what that layer says of it."""
    tables = _pairs(given) if given.textual else given.value
    if not isinstance(tables, dict):
        raise InvalidError(f'{given.where} = {shown(tables)}: a table [facade.upstreams."NAMESPACE"] is expected')
    return {namespace.lower(): _upstream(namespace, table, given) for namespace, table in tables.items()}


def _pairs(given: Given) -> dict[str, dict[str, list[str]]]:
    """Each namespace with its endpoints, in the order in which they were written."""
    tables: dict[str, dict[str, list[str]]] = {}
    for word in _words(given.value):
        namespace, equals, endpoint = word.partition("=")
        if not (namespace and equals and endpoint):
            raise InvalidError(
                f"{given.where} = {shown(word)}: NAMESPACE=URL is expected, such as corp.test=http://127.0.0.1:5000"
            )
        tables.setdefault(namespace.lower(), {"endpoint": []})["endpoint"].append(endpoint)
    return tables


def _endpoints(value: object, where: str) -> tuple[Url, ...]:
    """One URL, or a list of them."""
    each = value if isinstance(value, list) else [value]
    if not each:
        raise InvalidError(f"{where} = []: http://HOST:PORT or https://HOST[:PORT] is expected, or a list of such")
    return tuple(_converted(Url, one, where, strict=True) for one in each)


def _tags(value: object, where: str) -> dict[str, TagRule]:
    """Patterns with a rule for each, in the order in which they were written."""
    if not isinstance(value, dict):
        raise InvalidError(f'{where} = {shown(value)}: a table is expected, such as {{"v*" = "pinned"}}')
    return {pattern: _converted(TagRule, rule, f'{where} "{pattern}"', strict=True) for pattern, rule in value.items()}


def _upstream(namespace: str, table: object, given: Given) -> UpstreamTable:
    where = f"{given.where} {namespace}" if given.textual else f'{given.where}."{namespace}"'
    if not isinstance(table, dict):
        raise InvalidError(f'{where} = {shown(table)}: a table [facade.upstreams."{namespace}"] is expected')
    return UpstreamTable(**_fields(UpstreamTable, table, where, named=not given.textual))


def _rules(given: Given) -> tuple[AccessTable, ...]:
    """The rules in their order; a variable has the same tables as JSON."""
    tables = given.value
    if given.textual:
        try:
            tables = json.loads(str(tables))
        except ValueError:
            tables = None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        expected = _RULES_AS_JSON if given.textual else "a table [[facade.access]]"
        raise InvalidError(f"{given.where} = {shown(given.value)}: {expected} is expected")
    return tuple(_rule(table, f"{given.where} rule {number}") for number, table in enumerate(tables, start=1))


def _rule(table: dict[str, object], where: str) -> AccessTable:
    fields = _fields(AccessTable, table, where, named=True)
    if not fields.get("repositories"):
        raise InvalidError(f"{where} repositories is missing: it names what the rule is for, such as team/* or *")
    return AccessTable(**fields)


_READERS: Final[Mapping[tuple[type, str], Callable[[Any, str], Any]]] = {
    (UpstreamTable, "endpoint"): _endpoints,
    (UpstreamTable, "tags"): _tags,
}
"""What a table's field is read with that has a form of its own."""


def _fields(kind: type, table: Mapping[str, object], where: str, *, named: bool) -> dict[str, Any]:
    """The values of a table within a table; `named` where a complaint should name the field."""
    hints = _hints(kind)
    for name in table:
        if name not in hints:
            raise InvalidError(f"{where} {name} is not known{nearest(name, hints)}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        place = f"{where} {name}" if named else where
        read = _READERS.get((kind, name))
        values[name] = read(value, place) if read else _converted(hints[name], value, place, strict=True)
    return values


def _words(value: object) -> list[str]:
    texts = (value,) if isinstance(value, str) else value
    assert isinstance(texts, Iterable)
    return [word for text in texts for word in re.split(r"[,\s]+", text) if word]


def _may_be_off(kind: Any) -> bool:
    return Listen in get_args(kind)


def _hints(table: type) -> dict[str, Any]:
    return get_type_hints(table)
