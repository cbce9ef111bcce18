"""Fill a store with many small blobs, by the node's own code."""

import argparse
import asyncio
import hashlib
from pathlib import Path
from typing import Final

from node.digest import Digest
from node.schema import SCHEMA
from node.store import Store, open_store

_AT_ONCE: Final = 64


def fingerprint() -> str:
    """Changes with the tables; a node opens any store with the same tables."""
    return hashlib.sha256(SCHEMA.encode()).hexdigest()[:12]


async def _fill(folder: Path, count: int) -> None:
    async with open_store(folder) as store, asyncio.TaskGroup() as writers:
        for part in range(_AT_ONCE):
            writers.create_task(_put(store, range(part, count, _AT_ONCE)))


async def _put(store: Store, numbers: range) -> None:
    for number in numbers:
        data = f"blob {number}".encode()
        await store.put(Digest.of(data), data)


def main() -> None:
    """Fill and end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(_fill(options.folder, options.count))


if __name__ == "__main__":
    main()
