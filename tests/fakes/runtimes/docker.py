"""As dockerd 20.10 pulls: everything from one endpoint after the other, a cut layer gone on with at the same one."""

import asyncio
from collections.abc import Sequence
from typing import Final

from tests.fakes.runtimes.line import FailedError, Host, Line, NoAnswerError, Reply
from tests.fakes.runtimes.runtime import BY_LINE, Named, Pulled, all_of, is_right, named_blobs

_TRIES: Final = 6
_CONFIG_TRIES: Final = 5
_AT_ONCE: Final = 3


class DockerLike:
    """HEAD by tag, GET by digest, blobs. What fails at an endpoint is begun anew at the next, but for whole blobs."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    async def pull(self, line: Line, name: str, tag: str) -> Pulled:
        """Implements `Runtime.pull`."""
        blobs: dict[str, bytes] = {}
        failure = FailedError("manifests", "there is no endpoint")
        for host in self._hosts:
            try:
                return Pulled(await self._from(line, host, name, tag, blobs), blobs)
            except FailedError as error:
                failure = error
        raise failure

    async def _from(self, line: Line, host: Host, name: str, tag: str, blobs: dict[str, bytes]) -> bytes:
        if not await line.ping(host):
            raise FailedError("manifests", f"{host.url} is no registry")
        head = await self._manifest(line, host, name, tag, method="HEAD")
        digest = head.headers.get("Docker-Content-Digest")
        manifest = await self._manifest(line, host, name, digest or tag)
        if digest is not None and not is_right(manifest.data, digest):
            raise FailedError("manifests", f"{digest}: verification failed")
        slots = asyncio.Semaphore(_AT_ONCE)

        config, *layers = named_blobs(manifest.data)

        async def fetch_config() -> None:
            blobs[config.digest] = await self._config(line, host, name, config)

        async def fetch(blob: Named) -> None:
            async with slots:
                blobs[blob.digest] = await self._layer(line, host, name, blob)

        await all_of([fetch_config(), *(fetch(layer) for layer in layers if layer.digest not in blobs)])
        return bytes(manifest.data)

    async def _manifest(self, line: Line, host: Host, name: str, selector: str, *, method: str = "GET") -> Reply:
        try:
            reply = await line.ask(host, "manifests", name, selector, method=method, accept=BY_LINE)
        except NoAnswerError as error:
            raise FailedError("manifests", str(error)) from None
        if reply.status != 200 or reply.cut or reply.stuck:
            raise FailedError("manifests", f"{host.url} answers {reply.status}")
        return reply

    async def _config(self, line: Line, host: Host, name: str, blob: Named) -> bytes:
        """The config: the whole anew after each failure, behind pauses that double."""
        pauses = [line.patience.config_pause_s * 2**tried for tried in range(_CONFIG_TRIES - 1)]
        for pause_s in (*pauses, None):
            data = bytearray()
            why = await self._go_on(line, host, name, blob, data)
            if why is None and not is_right(data, blob.digest):
                raise FailedError("blobs", f"{blob.digest}: image config verification failed")
            if why is None:
                return bytes(data)
            if pause_s is None:
                raise FailedError("blobs", f"{blob.digest}: {why}")
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _layer(self, line: Line, host: Host, name: str, blob: Named) -> bytes:
        """A layer: each failure costs a longer pause, whatever had come; what did come is kept."""
        data = bytearray()
        for tried in range(1, _TRIES + 1):
            resumed = bool(data)
            why = await self._go_on(line, host, name, blob, data)
            if why is None and is_right(data, blob.digest):
                return bytes(data)
            if why is None:
                why = "filesystem layer verification failed"
                data.clear()
                if not resumed:
                    break
            if tried < _TRIES:
                await asyncio.sleep(line.patience.pause_s * tried)
        raise FailedError("blobs", f"{blob.digest}: {why}")

    async def _go_on(self, line: Line, host: Host, name: str, blob: Named, data: bytearray) -> str | None:
        """Ask for what is missing; why that is to be tried again, or None when all has come.

        A host that does not answer a Range with a part loses what had come.

        Raises:
            FailedError: when the endpoint does not have it, or hangs.
        """
        start = len(data)
        try:
            reply = await line.ask(host, "blobs", name, blob.digest, start=start)
        except NoAnswerError as error:
            if error.waited:
                raise FailedError("blobs", f"{blob.digest} hangs") from None
            return str(error)
        if start and reply.status != 206:
            data.clear()
            return f"answers {reply.status} to a Range"
        if 400 <= reply.status < 500:
            raise FailedError("blobs", f"{blob.digest}: {host.url} answers {reply.status}")
        if reply.status >= 500:
            return f"answers {reply.status}"
        data += reply.data
        if reply.stuck:
            raise FailedError("blobs", f"{blob.digest} hangs")
        return "cut" if reply.cut else None
