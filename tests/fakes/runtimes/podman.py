"""As Podman 4.3 pulls: a host that gives the manifest must give the blobs as well, and a cut is the end."""

from collections.abc import Sequence
from typing import Final

from tests.fakes.runtimes.line import FailedError, Host, Line, NoAnswerError, Reply
from tests.fakes.runtimes.runtime import BY_LINE, Named, Pulled, all_of, is_right, named_blobs

_TRIES: Final = 5


class PodmanLike:
    """GET by tag, whose bytes are believed; then the config and, side by side, the layers, from the same host."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    async def pull(self, line: Line, name: str, tag: str) -> Pulled:
        """Implements `Runtime.pull`."""
        host, manifest = await self._manifest(line, name, tag)
        config, *layers = named_blobs(manifest)
        blobs: dict[str, bytes] = {}

        async def fetch(blob: Named) -> None:
            blobs[blob.digest] = await self._blob(line, host, name, blob)

        await fetch(config)
        await all_of(fetch(layer) for layer in layers)
        return Pulled(manifest, blobs)

    async def _manifest(self, line: Line, name: str, tag: str) -> tuple[Host, bytes]:
        for host in self._hosts:
            if not await line.ping(host):
                continue
            try:
                reply = await line.ask(host, "manifests", name, tag, accept=BY_LINE, tries=_TRIES)
            except NoAnswerError:
                continue
            if _is_whole(reply):
                return host, bytes(reply.data)
        raise FailedError("manifests", f"no host gives {tag}")

    async def _blob(self, line: Line, host: Host, name: str, blob: Named) -> bytes:
        try:
            reply = await line.ask(host, "blobs", name, blob.digest, tries=_TRIES)
        except NoAnswerError as error:
            raise FailedError("blobs", str(error)) from None
        if not _is_whole(reply):
            how = "hangs" if reply.stuck else "unexpected EOF" if reply.cut else f"HTTP {reply.status}"
            raise FailedError("blobs", f"{blob.digest}: {how}")
        if not is_right(reply.data, blob.digest):
            raise FailedError("blobs", f"{blob.digest}: digest did not match")
        return bytes(reply.data)


def _is_whole(reply: Reply) -> bool:
    return reply.status == 200 and not reply.cut and not reply.stuck
