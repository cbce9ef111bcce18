"""What an answer's headers ask of the next request: challenges (RFC 9110, section 11.6.1) and Retry-After (10.2.3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}(?![^\s,])))')
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_GAP: Final = re.compile(r"[ \t,]*")
_LONGEST_WAIT_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; scheme and parameter names are lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(lines: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of the WWW-Authenticate lines, in order; what is malformed ends its line."""
    return tuple(challenge for line in lines for challenge in _parse_line(line))


def _parse_line(line: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    at = _skip(line, 0)
    while at < len(line):
        parameter = _PARAMETER.match(line, at)
        if parameter is not None and found:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(name.lower(), value)
            at = _skip(line, parameter.end())
            continue
        scheme = _SCHEME.match(line, at)
        if parameter is not None or scheme is None:
            break
        found.append((scheme[1].lower(), {}))
        at = scheme.end()
        if (blob := _TOKEN68.match(line, at)) is not None and _PARAMETER.match(line, at) is None:
            at = blob.end()
        at = _skip(line, at)
    return [Challenge(scheme, MappingProxyType(parameters)) for scheme, parameters in found]


def _skip(line: str, at: int) -> int:
    gap = _GAP.match(line, at)
    return gap.end() if gap else at


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds to wait from `now` (Unix time), at most a day; None when the header is missing or malformed."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_WAIT_S)
    try:
        then = parsedate_to_datetime(text)
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return min(max(0.0, then.timestamp() - now), _LONGEST_WAIT_S)
    except (ValueError, OverflowError):  # no date, or one that no calendar has
        return None
