"""A client of any IPFS HTTP gateway (Trustless and Path Gateway specifications)."""

from collections.abc import AsyncGenerator, Mapping

import aiohttp
from yarl import URL

from node.cid import Cid


class GatewayClient:
    """Reads blocks and file ranges from gateways; which one is said with each call."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def block(self, base_url: URL, cid: Cid, *, headers: Mapping[str, str] | None = None) -> bytes:
        """A block, verified against its CID.

        Raises:
            NotFoundError: when the gateway does not have it, or not for us.
            MismatchError: when its bytes are others, or more than 2 MiB.
            UnreachableError: when no answer came in time.
        """
        raise NotImplementedError

    def body(
        self,
        base_url: URL,
        cid: Cid,
        start: int,
        stop: int,
        *,
        headers: Mapping[str, str] | None = None,
        stall_s: float = 2.0,
    ) -> AsyncGenerator[bytes, None]:
        """A file's bytes from `start` to `stop`, exactly as many, not verified. Close it (`aclosing`) to stop early.

        Raises:
            NotFoundError: when the gateway does not have the file, or not for us.
            MismatchError: when it answers with another range, or more bytes than asked for.
            UnreachableError: when no byte came for `stall_s`, or the body broke.
        """
        raise NotImplementedError

    async def probe(self, base_url: URL) -> bool:
        """Whether a gateway answers there."""
        raise NotImplementedError
