"""A client that pushes to a node's own repositories, as the OCI distribution specification has it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from yarl import URL

from node.digest import Digest
from node.manifest import OCI_MANIFEST
from tests.facade.machine import Machine, Pulled
from tests.fakes.images import FakeImage


@dataclass
class Pusher:
    """Pushes to one repository of one node."""

    machine: Machine
    name: str = "team/app"

    @property
    def base(self) -> str:
        """Where the repository is."""
        return f"{self.machine.facade}/v2/{self.name}"

    async def send(
        self, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Pulled:
        """One request; `path` is behind the repository's address, or a Location."""
        url = f"{self.machine.facade}{path}" if path.startswith("/v2/") else f"{self.base}/{path}"
        return await self.machine.ask(url, method, dict(headers or {}), data)

    async def begin(self, query: str = "") -> str:
        """Begin an upload; its Location."""
        answer = await self.send("POST", f"blobs/uploads/{query}")
        assert answer.status == 202, answer
        return answer.headers["Location"]

    async def stream(self, method: str, path: str, pieces: Iterable[bytes], **headers: str) -> int:
        """One request whose body has no length beforehand; the status of its answer."""

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        url = f"{self.machine.facade}{path}"
        async with self.machine.session.request(method, url, data=body(), headers=headers) as answer:
            await answer.read()
            return answer.status

    async def raw(self, head: str, body: bytes = b"") -> bytes:
        """One request as it is written, headers after `head`'s first line; what comes back until the end.

        The client says that it closes, and sends nothing behind `body`.
        """
        url = URL(self.machine.facade)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        first, _, rest = head.partition("\n")
        lines = [f"{first} HTTP/1.1", f"Host: {url.host}:{url.port}", "Connection: close", *rest.splitlines(), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        try:
            async with asyncio.timeout(10):
                await writer.drain()
                if writer.can_write_eof():
                    writer.write_eof()
                return await reader.read()
        finally:
            writer.close()

    async def blob(self, data: bytes, digest: Digest | None = None) -> Digest:
        """Push a blob by POST and PUT."""
        digest = digest or Digest.of(data)
        answer = await self.send("PUT", f"{await self.begin()}?digest={digest}", data)
        assert answer.status == 201, answer
        return digest

    async def manifest(self, selector: object, data: bytes, media_type: str = OCI_MANIFEST) -> Pulled:
        """Push a manifest."""
        return await self.send("PUT", f"manifests/{selector}", data, {"Content-Type": media_type})

    async def image(self, image: FakeImage, tag: str) -> None:
        """Push all of an image."""
        for blob in image.blobs:
            await self.blob(blob.data, blob.digest)
        answer = await self.manifest(tag, image.manifest.data, image.manifest.media_type)
        assert answer.status == 201, answer
