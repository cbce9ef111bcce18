"""Asks a running node, by its admin listener."""

import http.client
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from facade.cli.pulling import reachable
from facade.settings import Address
from node.errors import InvalidError, LayermeshError, NotFoundError, UnreachableError

PATIENCE_S: Final = 10.0


def ask(admin: Address, path: str, query: Mapping[str, str] | None = None) -> Any:
    """The decoded JSON of one answer. Blocks for at most `PATIENCE_S` without a byte.

    Raises:
        UnreachableError: when no node answers there.
        NotFoundError, InvalidError: as the node says.
    """
    target = path + "".join(f"?{name}={quote(value, safe='')}" for name, value in (query or {}).items())
    status, body = _get(reachable(admin), target)
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise UnreachableError(f"what answers at {admin} is no layermesh node; name its address with --admin") from None
    if status == 200:
        return answer
    message = str(answer.get("error")) if isinstance(answer, dict) else f"HTTP status {status}"
    kinds: dict[int, type[LayermeshError]] = {400: InvalidError, 404: NotFoundError}
    raise kinds.get(status, UnreachableError)(message)


def _get(admin: Address, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"no node answers at {admin} ({_reason(error)}): start one with `layermesh up`,"
            " or name its admin address with --admin HOST:PORT"
        ) from None
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).lower()
