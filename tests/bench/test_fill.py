"""The stores that are filled for a measurement."""

from pathlib import Path

from node.catalog import Audience
from node.digest import Digest
from node.store import open_store
from tests.bench.fill import MANY, blob, fill_own


async def test_a_node_opens_a_filled_store_and_knows_its_blobs_as_its_own(tmp_path: Path) -> None:
    await fill_own(tmp_path / "store", 50, files=3)

    async with open_store(tmp_path / "store") as store:
        digest = Digest.of(blob(2))
        content = await store.owned.blob(MANY, digest)
        records, _ = await store.owned.page(0)
        log = await store.changes(0, Audience.MEMBERS)
        assert store.stats.blobs == 50
        assert content is not None and content.digest == digest
        assert await store.load(digest) == blob(2)
        assert len({record.name for record in records}) == 50
        assert len(log.entries) == 100
