"""Members of one cluster, and their own repositories."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from node.catalog import Audience, RecordChange
from node.digest import Digest
from node.manifest import OCI_MANIFEST
from node.records import Kind, Record
from node.reference import Tag
from tests.facade.machine import Machine, machine, until
from tests.fakes.peer import FakePeer
from tests.fakes.registry import FakeRegistry

SECRET = b"a secret of the whole cluster"


APP = "team/app"


EMPTY = b"{}"


@asynccontextmanager
async def member(folder: Path, registry: FakeRegistry, *joins: Machine | FakePeer) -> AsyncIterator[Machine]:
    urls = tuple(str(one.url) if isinstance(one, FakePeer) else one.mesh for one in joins)
    async with machine(folder, registry, secret=SECRET, joins=urls) as node:
        yield node


async def three(stack: AsyncExitStack, folder: Path, registry: FakeRegistry) -> tuple[Machine, Machine, Machine]:
    """Three members that all see each other."""
    a = await stack.enter_async_context(member(folder / "a", registry))
    b = await stack.enter_async_context(member(folder / "b", registry, a))
    c = await stack.enter_async_context(member(folder / "c", registry, a, b))
    await until(lambda: all(sum(peer.member for peer in node.cluster.peers()) == 2 for node in (a, b, c)))
    return a, b, c


async def records(node: Machine) -> dict[tuple[str, Kind, str], Record]:
    changes = await node.store.changes(0, Audience.MEMBERS, 100_000)
    found = [entry.record for entry in changes.entries if isinstance(entry, RecordChange)]
    return {(each.repository, each.kind, each.name): each for each in found}


async def settled(*nodes: Machine, limit_s: float = 10.0) -> dict[tuple[str, Kind, str], Record]:
    """Wait until all have the same records; those."""
    async with asyncio.timeout(limit_s):
        while True:
            first, *rest = [await records(node) for node in nodes]
            if all(each == first for each in rest):
                return first
            await asyncio.sleep(0.02)


async def meaning(node: Machine, tag: str) -> Digest | None:
    content = await node.store.owned.tag(APP, Tag(tag))
    return None if content is None else content.digest


async def until_tag(node: Machine, tag: str, digest: Digest | None, limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while await meaning(node, tag) != digest:
            await asyncio.sleep(0.01)


def referring(subject: Digest, note: str) -> bytes:
    named = {"mediaType": "application/x", "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)}
    about = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 5}
    plain = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named, "layers": [], "subject": about}
    return json.dumps({**plain, "annotations": {"note": note}}).encode()
