"""The server side of the mesh protocol: `GET|POST /mesh/v1/hello` and `GET /mesh/v1/log` on the mesh listener."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from yarl import URL

from cluster import messages
from cluster.auth import ANSWER_HEADER, Call, Keys, Proven, Replays, claimed_sender, sign_answer, verify_request
from cluster.membership import Origin
from cluster.messages import Hello, LogPage
from cluster.wire import HELLO, LOG
from node.catalog import Audience, Visibility
from node.errors import DeniedError, InvalidError, LayermeshError
from node.store import Store

PAGE_ENTRIES: Final = 1000
MAX_WAIT_S: Final = 60.0
_PROVEN: Final[Any] = getattr(web, "RequestKey", lambda name, _: name)("layermesh.proven", object)  # since aiohttp 3.14

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """Who sent a request, and what they may have."""

    def __init__(self, node_id: str, keys: Keys | None, open_gateway: bool, clock: Callable[[], float]) -> None:
        self._node_id = node_id
        self.keys = keys
        self._open = open_gateway
        self._clock = clock
        self._replays = Replays()

    def prove(self, request: web.Request, body: bytes = b"") -> Proven | None:
        """The member that a request comes from; None when it claims nothing, or there is no secret here.

        Raises:
            DeniedError: when it claims more than it proves.
        """
        if _PROVEN not in request:  # each once: the second look would be a replay
            request[_PROVEN] = self._prove(request, body)
        known: Proven | DeniedError | None = request[_PROVEN]
        if isinstance(known, DeniedError):
            raise known
        return known

    def audience(self, proven: Proven | None) -> Audience | None:
        """Whose eyes a log or gateway is read with; None when it may not be read."""
        if proven is not None:
            return Audience.MEMBERS
        return Audience.PUBLIC if self.keys is None or self._open else None

    def may_read(self, request: web.Request, visibility: Visibility) -> bool:
        """Whether whoever sent a request without a body may have what is that visible; a wrong proof gets nothing."""
        if visibility is Visibility.PRIVATE:
            return False
        try:
            audience = self.audience(self.prove(request))
        except DeniedError:
            return False
        return audience is Audience.MEMBERS or (audience is not None and visibility is Visibility.PUBLIC)

    def _prove(self, request: web.Request, body: bytes) -> Proven | DeniedError | None:
        header = request.headers.get("Authorization")
        if self.keys is None or header is None:
            return None
        try:
            call = Call(claimed_sender(header), self._node_id, request.method, request.raw_path, body)
            return verify_request(self.keys, header, call, self._clock(), self._replays)
        except DeniedError as error:
            return error


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that greeted us: where it may be greeted in turn."""

    url: URL
    origin: Origin
    boot: str


class MeshServer:
    """Answers peers. `hello` is who this node is, to members (True) and to others."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        hello: Callable[[bool], Hello],
        heard: Callable[[Candidate], None],
        polls_per_host: int,
    ) -> None:
        self._store = store
        self._gate = gate
        self._hello = hello
        self._heard = heard
        self._polls_per_host = polls_per_host
        self._polls: set[asyncio.Timeout] = set()
        self._hosts: Counter[str] = Counter()
        self._stopped = False

    def routes(self) -> list[web.RouteDef]:
        """The mesh protocol's routes."""
        return [
            web.get(HELLO, _answering(self._tell), allow_head=False),
            web.post(HELLO, _answering(self._greet)),
            web.get(LOG, _answering(self._log), allow_head=False),
        ]

    def stop_polls(self) -> None:
        """Answer waiting requests now, and let none wait again."""
        self._stopped = True
        for poll in self._polls:
            if not poll.expired():
                poll.reschedule(0.0)

    async def _tell(self, request: web.Request) -> web.Response:
        proven = self._gate.prove(request)
        return self._answer(proven, self._hello(proven is not None))

    async def _greet(self, request: web.Request) -> web.Response:
        body = await _read(request, messages.MAX_HELLO_BYTES)
        proven = self._gate.prove(request, body)
        hello = messages.decode_hello(body)
        if proven is not None and proven.sender != hello.id:
            raise InvalidError("hello: it names another node than the one that proved itself")
        mine = self._hello(proven is not None)
        if (hello.id, hello.boot) != (mine.id, mine.boot):
            self._heard(_candidate(hello, request.remote, proven))
        return self._answer(proven, mine)

    async def _log(self, request: web.Request) -> web.Response:
        proven = self._gate.prove(request)
        audience = self._gate.audience(proven)
        if audience is None:
            raise DeniedError("the log of this node is for members of its cluster; a proof of the secret is expected")
        log_id, since = request.query.get("id", ""), _number(request, "since", messages.MAX_SEQ)
        wait_s = _seconds(request, "wait")
        if log_id != self._store.log_id:
            since = 0
        return self._answer(proven, await self._page(since, audience, wait_s, request.remote or ""))

    async def _page(self, since: int, audience: Audience, wait_s: float, host: str) -> LogPage:
        changes = await self._store.changes(since, audience, PAGE_ENTRIES)
        if self._stopped or self._hosts[host] >= self._polls_per_host:
            return messages.page_of(changes)
        self._hosts[host] += 1
        try:
            async with asyncio.timeout(wait_s) as poll:
                self._polls.add(poll)
                while not changes.entries and not changes.more:
                    await self._store.wait_changes(changes.upto)
                    changes = await self._store.changes(changes.upto, audience, PAGE_ENTRIES)
        except TimeoutError:
            pass  # nothing new in this time
        finally:
            self._polls.discard(poll)
            self._hosts[host] -= 1
            self._hosts += Counter()  # forgets hosts at zero
        return messages.page_of(changes)

    def _answer(self, proven: Proven | None, message: Hello | LogPage) -> web.Response:
        body = messages.encode(message)
        headers = {"Cache-Control": "no-store"}
        if proven is not None and self._gate.keys is not None:
            headers[ANSWER_HEADER] = sign_answer(self._gate.keys, self._hello(True).id, proven, 200, body)
        return web.Response(body=body, content_type=messages.CONTENT_TYPE, headers=headers)


def _answering(handler: Handler) -> Handler:
    """Refusals as one line of text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except DeniedError as error:
            return web.Response(status=401, text=f"{error}\n", headers={"WWW-Authenticate": "Layermesh-Mac"})
        except InvalidError as error:
            return web.Response(status=400, text=f"{error}\n")
        except LayermeshError as error:
            return web.Response(status=503, text=f"{error}\n")

    return answer


def _candidate(hello: Hello, remote: str | None, proven: Proven | None) -> Candidate:
    """Where to greet who greeted us: a stranger at its own address, whatever it says; a member where it says."""
    if proven is not None and hello.url is not None:
        return Candidate(parse_peer_url(hello.url), Origin.MEMBER, hello.boot)
    if remote is None:
        raise InvalidError("hello: the sender has no address")
    try:
        url = URL.build(scheme="http", host=remote.removeprefix("::ffff:"), port=hello.port)
    except ValueError:
        raise InvalidError(f"hello: nodes are not reached at addresses such as {remote[:60]!r}") from None
    return Candidate(url, Origin.STRANGER if proven is None else Origin.MEMBER, hello.boot)


def parse_peer_url(text: str) -> URL:
    """Where a node is reached.

    Raises:
        InvalidError: when it is no http or https URL of a host and port.
    """
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise InvalidError(f"peer URL {text[:80]!r}: http://HOST:PORT is expected") from None
    if url.scheme not in ("http", "https") or not url.host or port is None or url.user or url.path not in ("", "/"):
        raise InvalidError(f"peer URL {text[:80]!r}: http://HOST:PORT is expected")
    return url.origin()


async def _read(request: web.Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise InvalidError(f"the message is longer than {most} bytes")
    return bytes(body)


def _number(request: web.Request, name: str, most: int) -> int:
    text = request.query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= most):
        raise InvalidError(f"{name}: a number from 0 to {most} is expected")
    return int(text)


def _seconds(request: web.Request, name: str) -> float:
    text = request.query.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_WAIT_S:
        raise InvalidError(f"{name}: seconds from 0 to {MAX_WAIT_S:g} are expected")
    return value
