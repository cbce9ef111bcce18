"""As containerd 2.4 pulls: each object from the first host that has it, a cut body gone on with wherever bytes come."""

import asyncio
from collections.abc import Sequence
from typing import Final

from tests.fakes.runtimes.line import FailedError, Host, Kind, Line, NoAnswerError, Reply
from tests.fakes.runtimes.runtime import JOINED, Named, Pulled, all_of, is_right, named_blobs

_THROTTLED_TRIES: Final = 5
_IDLE_TRIES: Final = 4
_AT_ONCE: Final = 3


class ContainerdLike:
    """HEAD by tag, then all by digest. What came of a blob before a cut is kept, for the next pull too.

    Only of mirrors, though the real one keeps it of every host: what comes of wrong bytes that the registry itself gave
    is nothing that a mirror could help.
    """

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._partial: dict[str, bytearray] = {}
        self._tainted: set[str] = set()

    async def pull(self, line: Line, name: str, tag: str) -> Pulled:
        """Implements `Runtime.pull`."""
        for digest in self._tainted:
            self._partial.pop(digest, None)
        self._tainted.clear()
        digest = await self._resolve(line, name, tag)
        manifest = await self._fetch(line, name, "manifests", Named(digest, 0))
        blobs: dict[str, bytes] = {}
        slots = asyncio.Semaphore(_AT_ONCE)

        async def fetch(blob: Named) -> None:
            async with slots:
                blobs[blob.digest] = await self._fetch(line, name, "blobs", blob)

        await all_of(fetch(blob) for blob in named_blobs(manifest))
        return Pulled(manifest, blobs)

    async def _resolve(self, line: Line, name: str, tag: str) -> str:
        for host in self._hosts:
            reply = await self._ask(line, host, name, "manifests", tag, method="HEAD")
            if reply is None or reply.status != 200:
                continue
            if digest := reply.headers.get("Docker-Content-Digest"):
                return digest
            reply = await self._ask(line, host, name, "manifests", tag)
            if reply is not None and reply.status == 200 and not reply.cut:
                return reply.digest
        raise FailedError("manifests", f"no host resolves {tag}")

    async def _fetch(self, line: Line, name: str, kind: Kind, blob: Named) -> bytes:
        data = self._partial.setdefault(blob.digest, bytearray())
        idle = 0
        while not data or len(data) < blob.size:
            before = len(data)
            reply = await self._open(line, name, kind, blob.digest, before)
            data += reply.data
            if reply.stuck:
                raise FailedError(kind, f"{blob.digest} hangs")
            if not reply.cut:
                break
            idle = idle + 1 if len(data) == before else 0
            if idle == _IDLE_TRIES:
                raise FailedError(kind, f"{blob.digest}: short read, again and again")
        if blob.size and len(data) < blob.size:
            raise FailedError(kind, f"{blob.digest}: short read")
        del self._partial[blob.digest]
        if not is_right(data, blob.digest):
            raise FailedError(kind, f"{blob.digest}: commit failed, digest mismatch")
        return bytes(data)

    async def _open(self, line: Line, name: str, kind: Kind, selector: str, start: int) -> Reply:
        for host in self._hosts:
            reply = await self._ask(line, host, name, kind, selector, start=start)
            if reply is not None and reply.status in (200, 206):
                if not host.is_mirror:
                    self._tainted.add(selector)
                return reply
        raise FailedError(kind, f"no host gives {selector}")

    async def _ask(
        self, line: Line, host: Host, name: str, kind: Kind, selector: str, *, method: str = "GET", start: int = 0
    ) -> Reply | None:
        """None when the host gives no headers; one that resets is asked twice."""
        accept = JOINED if kind == "manifests" else ()
        for _ in range(2):
            try:
                tries = _THROTTLED_TRIES
                return await line.ask(
                    host, kind, name, selector, method=method, start=start, accept=accept, tries=tries
                )
            except NoAnswerError as error:
                if error.waited:
                    break
        return None
