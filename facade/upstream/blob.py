"""One blob upstream: where it is asked for, and with whose right."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from facade.upstream.asking import Asker, Heard, Question
from facade.upstream.config import Access, Endpoint, UpstreamConfig
from facade.upstream.ranges import size_from_range
from facade.upstream.wire import Answer
from node.digest import Digest
from node.errors import DeniedError, NotFoundError
from node.reference import Repository

_OK: Final = frozenset({200})
_RANGED: Final = frozenset({200, 206, 416})


class UpstreamBlob:
    """A blob as its namespace's endpoints give it; each body comes from one that gave none yet, as far as there is one.

    Where what credentials open is refused to clients, none are sent, whoever named the blob.
    """

    def __init__(self, asker: Asker, config: UpstreamConfig, repository: Repository, digest: Digest) -> None:
        self._asker, self._config, self._repository, self._digest = asker, config, repository, digest
        self._used: list[Endpoint] = []

    @property
    def has_others(self) -> bool:
        """Whether some endpoint gave no body yet."""
        return len(set(self._used)) < len(set(self._config.endpoints))

    async def size(self, expected: int | None = None) -> int:
        """Its size in bytes, by HEAD, or a GET of its first byte where that does not tell `expected`, or is refused.

        Raises:
            UnreachableError: also when upstream does not tell it.
        """
        with suppress(DeniedError, NotFoundError):  # so does storage behind a redirect that signed a GET
            answer = (await self._ask("HEAD", {}, _OK)).answer
            answer.close()
            if answer.length is not None and expected in (None, answer.length):
                return answer.length
        answer = (await self._ask("GET", {"Range": "bytes=0-0"}, _RANGED)).answer
        try:
            return size_from_range(answer)
        finally:
            answer.close()

    async def open_from(self, start: int) -> Answer:
        """The answer with its bytes from `start` on."""
        return await self._open({"Range": f"bytes={start}-"} if start else {}, _RANGED if start else _OK)

    async def open_range(self, header: str) -> Answer:
        """The answer to this Range header."""
        return await self._open({"Range": header}, _RANGED)

    def stalled(self) -> None:
        """The last body that was opened sat without a byte."""
        self._asker.stalled(self._used[-1])

    async def _open(self, headers: Mapping[str, str], also: frozenset[int]) -> Answer:
        heard = await self._ask("GET", headers, also)
        self._used.append(heard.endpoint)
        return heard.answer

    async def _ask(self, method: str, headers: Mapping[str, str], also: frozenset[int]) -> Heard:
        anonymous = self._config.access is Access.REFUSE
        question = Question(method, self._repository, f"blobs/{self._digest}", headers, anonymous)
        return await self._asker.ask(self._config, question, also=also, last=self._used)
