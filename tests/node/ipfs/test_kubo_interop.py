"""The same bytes have the same CID everywhere: what is added there is read here, and the other way round."""

from pathlib import Path

import pytest

from node.cid import Cid
from node.digest import Digest
from node.errors import MismatchError, UnreachableError
from node.ipfs.kubo.adding import add
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import Timings, open_kubo
from node.ipfs.kubo.rpc import Rpc, open_session
from node.store import Store
from tests.fakes.kubo import fake_kubo
from tests.fakes.peer import dag_of
from tests.kubo.daemon import Kubo, running_kubo
from tests.node.contents import MIB, PUBLIC, content

DATA = content(2 * MIB + 5, "interop")
QUICK = Timings(swarm_s=0.5, pin_stall_s=1.0)


async def test_what_was_added_by_the_command_line_is_read_here(store: Store, kubo: Kubo, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    cid = kubo.by_hand("add", "--quieter", str(tmp_path / "file")).decode().strip()
    assert cid == str(dag_of(DATA).root)
    async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
        assert (await network.health()).trouble is None
        assert await network.has(Cid.parse(cid))
        async with network.open(Cid.parse(cid), 1, MIB + 1) as pieces:
            assert b"".join([piece async for piece in pieces]) == DATA[1 : MIB + 1]


async def test_what_was_added_here_is_read_by_the_command_line(store: Store, kubo: Kubo) -> None:
    holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
    async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
        await network.add(holding.digest)
    assert kubo.by_hand("cat", str(holding.cid)) == DATA


async def test_a_file_is_fetched_from_another_kubo_of_the_swarm(store: Store, kubo: Kubo, tmp_path: Path) -> None:
    with running_kubo(tmp_path / "other") as other:
        (tmp_path / "file").write_bytes(DATA)
        other.by_hand("add", str(tmp_path / "file"))
        kubo.meet(other)
        cid = dag_of(DATA).root
        async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
            await network.health()
            assert not await network.has(cid)
            await network.pin(cid)
            assert await network.has(cid)
        assert int(other.call("bitswap/stat")["DataSent"]) >= len(DATA)


async def test_what_a_person_pinned_before_or_since_stays_theirs(store: Store, kubo: Kubo, tmp_path: Path) -> None:
    holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
    other = await store.put(Digest.of(b"other"), b"other", PUBLIC)
    (tmp_path / "file").write_bytes(DATA)
    kubo.by_hand("add", str(tmp_path / "file"))
    async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
        assert await network.add(holding.digest) == holding.cid
        await network.add(other.digest)
        kubo.by_hand("pin", "add", str(other.cid))
        for cid in (holding.cid, other.cid):
            await network.withdraw(cid)
            await network.unpin(cid)
    pinned = kubo.by_hand("pin", "ls", "--type=recursive", "--quiet").decode().split()
    assert {str(holding.cid), str(other.cid)} <= set(pinned)


async def test_settings_of_the_daemon_change_no_cid(store: Store, tmp_path: Path) -> None:
    settings = {
        "Import": {
            "CidVersion": 0,
            "UnixFSRawLeaves": False,
            "UnixFSChunker": "size-262144",
            "UnixFSFileMaxLinks": 174,
        }
    }
    holding = await store.put(Digest.of(DATA), DATA, PUBLIC)
    with running_kubo(tmp_path / "kubo", settings=settings) as kubo:
        async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
            assert (await network.health()).trouble is None
            assert await network.add(holding.digest) == holding.cid


async def test_what_kubo_named_otherwise_is_not_left_pinned(store: Store) -> None:
    async with fake_kubo() as fake, open_kubo(store, Endpoint(fake.rpc), QUICK) as network:
        await network.health()
        await store.put(Digest.of(DATA), DATA, PUBLIC)
        fake.faults.other_profile = True
        with pytest.raises(MismatchError, match="added it as"):
            await network.add(Digest.of(DATA))
        assert not fake.pinned


async def test_an_upload_that_cannot_go_on_leaves_no_pin_in_kubo(kubo: Kubo, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(DATA[:-MIB])
    endpoint = Endpoint(kubo.rpc)
    with (tmp_path / "cut").open("rb") as file:
        async with open_session(endpoint, pooled=False) as session:
            with pytest.raises(UnreachableError, match="shorter than it was"):
                await add(Rpc(endpoint, session), file, len(DATA), pin_name="cut")
    assert "cut" not in kubo.by_hand("pin", "ls", "--type=recursive", "--names").decode()
