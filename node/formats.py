"""What a gateway's client asks for, and how its answer is described: pure (Trustless Gateway specification).

The query wins over `Accept` for the format, and for each parameter of a CAR; what neither says is `dfs`, `dups=n`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlencode

from node.errors import InvalidError

RAW_BLOCK: Final = "application/vnd.ipld.raw"
CAR: Final = "application/vnd.ipld.car"
FILE: Final = "application/octet-stream"
_NOT_BUILT: Final = {
    "tar": "application/x-tar",
    "dag-json": "application/vnd.ipld.dag-json",
    "dag-cbor": "application/vnd.ipld.dag-cbor",
    "json": "application/json",
    "cbor": "application/cbor",
}
_RECORD: Final = {"ipns-record": "application/vnd.ipfs.ipns-record"}
_PLAIN_TYPES: Final = frozenset({"*/*", "application/*", FILE})
_PART: Final = re.compile(r'[^,;"]+|"(?:[^"\\]|\\.)*(?:"|\\?$)|[,;]', re.DOTALL)
"""A quotation that does not end goes to the end: else each of its quotes would be looked at anew."""
_ENTITY_BYTES: Final = re.compile(r"(-?[0-9]{1,18}):(-?[0-9]{1,18}|\*)")
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_MOST_RANGES: Final = 32
_LONGEST_ACCEPT: Final = 8192


class UnsupportedError(InvalidError):
    """It is asked for as the specifications have it, but this node has no answer of that kind: 501."""


class UnacceptableError(InvalidError):
    """Nothing that the client accepts can be given: 406."""


class Format(StrEnum):
    """What an answer is; `PLAIN` where a client asked for no format: a file's bytes."""

    PLAIN = "plain"
    RAW = "raw"
    CAR = "car"


class Scope(StrEnum):
    """Which blocks a CAR holds besides those of the path: `dag-scope`."""

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class EntityBytes:
    """`entity-bytes=first:last`, both included; negative ones count from the end, `last` is None for the end itself."""

    first: int
    last: int | None

    @classmethod
    def parse(cls, text: str) -> "EntityBytes":
        """Read the parameter.

        Raises:
            InvalidError: when it is malformed, or ends before it begins whatever the size is.
        """
        found = _ENTITY_BYTES.fullmatch(text)
        if found is None:
            raise InvalidError(f"entity-bytes {text[:60]!r}: FROM:TO is expected, two numbers, or * for the end")
        first, last = int(found[1]), None if found[2] == "*" else int(found[2])
        if last is not None and last < first and (last < 0) is (first < 0):
            raise InvalidError(f"entity-bytes {text[:60]!r}: it ends before it begins")
        return cls(first, last)

    def within(self, size: int) -> range:
        """The bytes of a file of `size` that it means, as many as there are.

        Raises:
            InvalidError: when it lies behind the end.
        """
        if self.first >= size > 0:
            raise InvalidError(f"entity-bytes: it begins at {self.first}, and there are {size} bytes")
        start = self.first if self.first >= 0 else max(0, size + self.first)
        stop = size if self.last is None else self.last + 1 if self.last >= 0 else size + self.last + 1
        return range(start, max(start, min(stop, size)))


@dataclass(frozen=True, slots=True)
class Question:
    """A request, read."""

    format: Format
    scope: Scope = Scope.ALL
    entity_bytes: EntityBytes | None = None
    dups: bool = False
    filename: str | None = None
    download: bool = False
    location: str | None = None
    """The query by which a cache tells this answer from others of the same path, where `Accept` chose it."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """One media range of `Accept`: its type, parameters and weight."""

    type: str
    parameters: Mapping[str, str]
    weight: float


def read_question(query: Mapping[str, str], accept: Sequence[str]) -> Question:
    """Read query and `Accept` lines.

    Raises:
        UnsupportedError: for a format that this node does not make.
        UnacceptableError: for parameters of a CAR that it does not make.
        InvalidError: for anything that is malformed.
    """
    ranges = _accepted(accept)
    asked, chosen = query.get("format"), _best(ranges)
    form = _chosen(chosen) if asked is None else _named(asked)
    question = Question(form, filename=query.get("filename"), download=query.get("download") == "true")
    known = chosen is not None and chosen.type in (RAW_BLOCK, CAR)
    if form is not Format.CAR:
        located = form is Format.RAW and known and _named_otherwise(asked, chosen)
        return replace(question, location="format=raw" if located else None)
    parameters = _car_parameters(query, ranges)
    scope, entity_bytes = _scope(query)
    dups = parameters["dups"] == "y"
    location = None
    if known and (_named_otherwise(asked, chosen) or any(f"car-{name}" not in query for name in parameters)):
        shown = {name: query[name] for name in ("dag-scope", "entity-bytes") if name in query}
        made = {"car-version": "1", "car-order": "dfs", "car-dups": "y" if dups else "n"}
        location = urlencode({"format": "car", **shown, **made})
    return replace(question, scope=scope, entity_bytes=entity_bytes, dups=dups, location=location)


def content_type(question: Question) -> str:
    """The media type of the answer."""
    if question.format is Format.CAR:
        return f"{CAR}; version=1; order=dfs; dups={'y' if question.dups else 'n'}"
    return RAW_BLOCK if question.format is Format.RAW else FILE


def etag(question: Question, path: str, cid: str) -> str:
    """What tells this answer from others: strong, for the same blocks always come in the same order.

    `path` is the content path from the root on, `cid` what it leads to.
    """
    if question.format is Format.PLAIN:
        return f'"{cid}"'
    if question.format is Format.RAW:
        return f'"{cid}.raw"'
    part = question.entity_bytes
    asked = f"{path} {'y' if question.dups else 'n'} {'' if part is None else (part.first, part.last)}"
    return f'"{question.scope}.{cid}.car.{hashlib.sha256(asked.encode()).hexdigest()[:16]}"'


def is_known(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names this tag, weakly compared (RFC 9110, section 13.1.2)."""
    if header is None:
        return False
    return header.strip() == "*" or tag in _TAG.findall(header)


def disposition(question: Question, cid: str) -> str | None:
    """`Content-Disposition`: blocks and archives are never shown by a browser, files only as they are asked for."""
    name = question.filename
    if question.format is Format.PLAIN:
        if name is None and not question.download:
            return None
        kind = "attachment" if question.download else "inline"
        return kind if name is None else f"{kind}; {_filename(name)}"
    ending = "car" if question.format is Format.CAR else "bin"
    return f"attachment; {_filename(name or f'{cid}.{ending}')}"


def _filename(name: str) -> str:
    """As RFC 6266 has it; what is not ASCII also as UTF-8 (RFC 8187)."""
    clean = "".join("_" if char in '\\/"' or ord(char) < 32 or ord(char) == 127 else char for char in name[:255])
    plain = "".join(char if char.isascii() else "_" for char in clean)
    said = f'filename="{plain}"'
    return said if clean.isascii() else f"{said}; filename*=UTF-8''{quote(clean, safe='')}"


def _named(text: str) -> Format:
    if text in (Format.RAW, Format.CAR):
        return Format(text)
    if text in _NOT_BUILT:
        raise UnsupportedError(f"format {text}: only raw blocks, CARs and plain files are served")
    if text in _RECORD:
        raise InvalidError(f"format {text}: there are no IPNS records under /ipfs/")
    raise InvalidError(f"format {text[:40]!r}: raw or car is expected")


def _chosen(best: _Accepted | None) -> Format:
    if best is None or best.type in _PLAIN_TYPES:
        return Format.PLAIN
    if best.type in (RAW_BLOCK, CAR):
        return Format.RAW if best.type == RAW_BLOCK else Format.CAR
    if best.type in _RECORD.values():
        raise InvalidError(f"{best.type}: there are no IPNS records under /ipfs/")
    raise UnsupportedError(f"{best.type}: only raw blocks, CARs and plain files are served")


def _named_otherwise(asked: str | None, chosen: _Accepted | None) -> bool:
    """Whether the URL does not say what `Accept` does."""
    return asked is None or (chosen is not None and chosen.type != (RAW_BLOCK if asked == "raw" else CAR))


def _accepted(lines: Sequence[str]) -> list[_Accepted]:
    """The media ranges of all `Accept` lines, in their order (RFC 9110, section 12.5.1)."""
    ranges: list[_Accepted] = []
    if (length := sum(map(len, lines))) > _LONGEST_ACCEPT:
        raise InvalidError(f"Accept: {length} characters, at most {_LONGEST_ACCEPT} are read")
    for text in _split(",".join(lines), ","):
        media_type, *rest = _split(text, ";")
        parameters = {}
        for each in rest:
            name, _, value = each.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        weight = _weight(parameters.pop("q", "1"))
        if weight > 0:
            ranges.append(_Accepted(media_type.strip().lower(), parameters, weight))
        if len(ranges) > _MOST_RANGES:
            raise InvalidError(f"Accept: more than {_MOST_RANGES} types")
    return ranges


def _split(text: str, at: str) -> list[str]:
    parts = [""]
    for token in _PART.findall(text):
        if token == at:
            parts.append("")
        else:
            parts[-1] += token
    return [part for part in parts if part.strip()] or [""]


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def _best(ranges: Sequence[_Accepted]) -> _Accepted | None:
    """What the client likes best of what is known here at all; of equals, blocks and archives before plain bytes."""
    kinds = ({RAW_BLOCK, CAR}, _PLAIN_TYPES, {*_NOT_BUILT.values(), *_RECORD.values()})
    known = [
        (-one.weight, rank, at, one)
        for at, one in enumerate(ranges)
        for rank, kind in enumerate(kinds)
        if one.type in kind
    ]
    makeable = [entry for entry in known if entry[1] < 2 and (entry[3].type != CAR or _is_made(entry[3].parameters))]
    best = min(makeable or known, default=None, key=lambda entry: entry[:3])
    return None if best is None else best[3]


def _is_made(parameters: Mapping[str, str]) -> bool:
    return (
        parameters.get("version", "1") == "1"
        and parameters.get("order", "dfs") in ("dfs", "unk", "")
        and parameters.get("dups", "n") in ("y", "n")
    )


def _car_parameters(query: Mapping[str, str], ranges: Sequence[_Accepted]) -> dict[str, str]:
    """What is said of the CAR by `Accept`, and above it by the query."""
    cars = [one for one in ranges if one.type == CAR]
    best = min(cars, default=None, key=lambda one: (not _is_made(one.parameters), -one.weight))
    parameters = {} if best is None else dict(best.parameters)
    parameters = {name: value for name, value in parameters.items() if name in ("version", "order", "dups")}
    parameters |= {name: query[f"car-{name}"] for name in ("version", "order", "dups") if f"car-{name}" in query}
    if not _is_made(parameters):
        shown = "; ".join(f"{name}={value[:20]}" for name, value in parameters.items())
        raise UnacceptableError(f"CAR with {shown}: version=1, order=dfs and dups=y or n are made")
    return {"dups": "n", **parameters}


def _scope(query: Mapping[str, str]) -> tuple[Scope, EntityBytes | None]:
    text, part = query.get("dag-scope"), query.get("entity-bytes")
    if text is not None and text not in set(Scope):
        raise InvalidError(f"dag-scope {text[:40]!r}: block, entity or all is expected")
    if part is None:
        return Scope(text or Scope.ALL), None
    if text not in (None, Scope.ENTITY):
        raise InvalidError("entity-bytes: it goes with dag-scope=entity alone")
    return Scope.ENTITY, EntityBytes.parse(part)
