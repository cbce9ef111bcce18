"""Asks a running node, by its admin listener."""

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Final
from urllib.parse import quote, urlencode

import msgspec

from facade.cli.pulling import reachable
from facade.settings import Address
from node.errors import InvalidError, LayermeshError, NotFoundError, UnreachableError

PATIENCE_S: Final = 10.0
LONG_S: Final = 300.0
"""For what the node has to write to its disk before it answers."""
_LONGEST_LINE: Final = 64 * 1024
_CUT: Final = (BrokenPipeError, ConnectionResetError)


def ask(admin: Address, path: str, query: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S) -> Any:
    """The decoded JSON of one answer. Blocks for at most `patience_s` without a byte.

    Raises:
        UnreachableError: when no node answers there.
        NotFoundError, InvalidError: as the node says.
    """
    target = f"{path}?{urlencode(query, quote_via=quote, safe='')}" if query else path
    status, body = _get(reachable(admin), target, patience_s)
    return _answer(admin, status, body)


def send(admin: Address, method: str, target: str, body: bytes | IO[bytes] | Iterable[bytes], length: int) -> Any:
    """The decoded JSON of the answer to a request with a body of `length` bytes. Raises as `ask`."""
    headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
    with _answering(reachable(admin), method, target, body, headers) as response:
        status, data = response.status, response.read()
    return _answer(admin, status, data)


@contextmanager
def fetched(
    admin: Address, target: str, headers: Mapping[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """An answer's body, to be read. Raises as `ask`."""
    with _answering(reachable(admin), "GET", target, headers=headers, patience_s=LONG_S) as response:
        if response.status not in (200, 206):
            _answer(admin, response.status, response.read())
        yield response


def told(admin: Address, target: str, question: object) -> Iterator[Any]:
    """The lines of JSON that a long answer consists of, as they come. Raises as `ask`."""
    body = msgspec.json.encode(question)
    headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
    with _answering(reachable(admin), "POST", target, body, headers) as response:
        if response.status != 200:
            _answer(admin, response.status, response.read())
        while line := response.readline(_LONGEST_LINE):
            yield _answer(admin, 200, line)


def streamed(admin: Address, method: str, target: str) -> Iterator[Any]:
    """The lines of JSON that a long answer consists of, as they come; the last one says that it is `done`.

    Raises:
        UnreachableError: also when the node breaks off, or says nothing for five minutes.
        NotFoundError, InvalidError: as the node says.
    """
    with _answering(reachable(admin), method, target, patience_s=LONG_S) as response:
        if response.status != 200:
            _answer(admin, response.status, response.read())
        while line := _line(admin, response):
            said = _answer(admin, 200, line)
            if said.get("error"):
                raise refused(said["status"], said["error"])
            yield said
            if said.get("done"):
                return
    raise _broken(admin)


def _line(admin: Address, response: http.client.HTTPResponse) -> bytes:
    try:
        return response.readline(_LONGEST_LINE)
    except (OSError, http.client.HTTPException):
        raise _broken(admin) from None


def _broken(admin: Address) -> UnreachableError:
    return UnreachableError(f"the node at {admin} broke off; its log may say why")


def refused(status: int, message: str) -> LayermeshError:
    """What an answer that is an error means."""
    kinds: dict[int, type[LayermeshError]] = {400: InvalidError, 404: NotFoundError}
    return kinds.get(status, UnreachableError)(message)


def _answer(admin: Address, status: int, body: bytes) -> Any:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreachableError(f"what answers at {admin} is no layermesh node; name its address with --admin") from None
    if status == 200:
        return answer
    message = str(answer.get("error")) if isinstance(answer, dict) else f"HTTP status {status}"
    raise refused(status, message)


def _get(admin: Address, target: str, patience_s: float) -> tuple[int, bytes]:
    with _answering(admin, "GET", target, patience_s=patience_s) as response:
        return response.status, response.read()


@contextmanager
def _answering(
    admin: Address,
    method: str,
    target: str,
    body: bytes | IO[bytes] | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=patience_s if body is None else LONG_S)
    try:
        with suppress(*_CUT):  # a node that refuses a body answers before it has read it
            connection.request(method, target, body, headers or {})
        yield connection.getresponse()
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
