"""A node with its Kubo sidecar, on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from cluster.config import Timings
from facade.background import Background
from facade.cli.serving import counted
from facade.metrics import Metrics
from facade.settings import Address, Waits
from facade.sidecar.app import sidecar_app
from node.cid import Cid
from node.unixfs import Dag
from tests.cluster.machine import Machine, machine, patient, until

ND: dict[str, str] = {"Accept": "application/x-ndjson"}
LOADED = patient(stall_s=20.0, leaf_s=30.0)
"""A peer that is well has not stalled because this machine is busy."""


@dataclass
class Sidecar:
    """A node, and a client of its sidecar."""

    node: Machine
    session: aiohttp.ClientSession
    metrics: Metrics
    address: Address
    runner: web.AppRunner

    async def provided(self, cid: Cid) -> bool:
        """Whether the node says that it has a block."""
        async with self.session.get(f"/routing/v1/providers/{cid}", headers=ND) as answer:
            assert answer.status == 200
            return bool(await answer.read())

    async def block(self, cid: Cid) -> bytes | None:
        """A block as Kubo asks for it; None for 404. That its bytes are right is looked at."""
        headers = {"Accept": "application/vnd.ipld.raw"}
        async with self.session.get(f"/ipfs/{cid}?format=raw", headers=headers) as answer:
            data = await answer.read()
            if answer.status == 404:
                return None
            assert answer.status == 200 and Cid.of(data, cid.codec) == cid
            return data

    async def blob(self, dag: Dag) -> bytes:
        """Every block of a blob, interior nodes first; the bytes of its leaves."""
        for cid, node in reversed(dag.interior):
            assert await self.block(cid) == node
        leaves = [await self.block(dag.leaf(at).cid) for at in range(dag.leaf_count)]
        return b"".join(leaf or b"missing" for leaf in leaves)


@asynccontextmanager
async def sidecar(
    folder: Path, *joins: URL, secret: bytes | None = None, timings: Timings = LOADED, port: int = 0
) -> AsyncIterator[Sidecar]:
    """Run one beside a node that joins others, until the block is left."""
    metrics = Metrics()
    async with (
        machine(folder, "mine", *joins, secret=secret, by_cid=True, timings=timings) as node,
        Background() as background,
    ):
        counting = counted("kubo-sidecar", metrics)
        bound = socket.create_server(("127.0.0.1", port))
        here = Address(*bound.getsockname())
        app = sidecar_app(node.store, node.cluster, background, metrics, here, Waits(), counting)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.SockSite(runner, bound).start()
        try:
            async with aiohttp.ClientSession(f"http://{here}", connector=aiohttp.TCPConnector(limit=0)) as session:
                yield Sidecar(node, session, metrics, here, runner)
        finally:
            await runner.cleanup()


async def heard_of(mine: Sidecar, cid: Cid) -> None:
    """Wait until the node knows of a peer that holds the blob with this root."""
    await until(lambda: bool(mine.node.cluster.rooted(cid)))


async def kept(mine: Sidecar, root: Cid) -> None:
    """Wait until what was fetched is in the store."""
    async with asyncio.timeout(10):
        while await mine.node.store.lent.block(root) is None:
            await asyncio.sleep(0.005)
