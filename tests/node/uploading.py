"""Uploads for tests: what is brought, and what is left of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from node.digest import Digest
from node.reference import OWN, Repository
from node.store import Store
from node.uploads import Upload
from tests.node.contents import MIB, content

APP, OTHER = Repository(OWN, "team/app"), Repository(OWN, "team/other")


DATA = content(3 * MIB + 5)


DIGEST = Digest.of(DATA)


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this: run the tests as root")


def left(store: Store) -> list[str]:
    """The files in uploads/."""
    return sorted(each.name for each in (store.folder / "uploads").iterdir())


async def bring(upload: Upload, data: bytes, piece: int = 300_000) -> int:
    """Bring bytes as one request; its turn."""
    turn = upload.turn()
    for at in range(0, len(data), piece):
        await upload.write(turn, data[at : at + piece])
    await upload.written()
    return turn


async def push(store: Store, data: bytes, digest: Digest, repository: Repository = APP) -> None:
    upload = await store.uploads.begin(repository, digest.algorithm)
    await store.uploads.finish(upload, await bring(upload, data), digest)


@contextmanager
def hashing_held(store: Store) -> Iterator[None]:
    """Nothing is hashed meanwhile."""
    go_on = threading.Event()
    for _ in range(os.cpu_count() or 1):
        store._shelf.workers.hashing.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()
