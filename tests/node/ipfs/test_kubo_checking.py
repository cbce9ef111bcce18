"""The try at start: which versions, profiles and gateways are taken, and which are refused before any upload."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from node.errors import InvalidError, UnreachableError
from node.ipfs.ipfshttpclient.network import open_ipfshttpclient
from node.ipfs.kubo import adding, checking
from node.ipfs.kubo.checking import check_profile, check_version
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import OnDaemon, Timings, open_kubo
from node.store import Store
from node.unixfs import LEAF_BYTES, build_dag
from tests.fakes.dag_layouts import root_of
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.kubo.daemon import Kubo

Opener = Callable[[Store, Endpoint, Timings], AbstractAsyncContextManager[OnDaemon]]
QUICK = Timings(look_s=10.0, swarm_s=0.5)
OPENERS = pytest.mark.parametrize("opened", [open_kubo, open_ipfshttpclient])


@pytest.fixture
async def fake() -> AsyncIterator[FakeKubo]:
    async with fake_kubo() as one:
        yield one


@pytest.mark.parametrize("version", ["0.40.0", "0.40.0-rc1", "0.43-dev", "0.43.1+dirty", "0.100.0", "1.0", "12.0.3"])
def test_a_version_from_0_40_on_is_taken(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["0.39.9", "0.4.23", "0.4", "0.0.0"])
def test_an_older_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidError, match=f"^Kubo {version} is too old: at least 0.40 is needed$"):
        check_version(version)


@pytest.mark.parametrize("version", ["", "garbage", "v0.43.0", "0", "0.43\n", "0.43 beta", "0.99999", "x" * 4000])
def test_what_is_no_version_is_refused_in_one_short_line(version: str) -> None:
    with pytest.raises(InvalidError, match=r"its version is .*: at least 0\.40 is needed$") as caught:
        check_version(version)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_the_known_cids_are_those_of_the_profile() -> None:
    (size, _, cid), (linked, chunker, linked_cid) = checking._VECTORS
    leaves = (bytes(min(LEAF_BYTES, size - at)) for at in range(0, size, LEAF_BYTES))
    assert str(build_dag(size, b"".join(hashlib.sha256(leaf).digest() for leaf in leaves)).root) == cid
    leaf_bytes = int(chunker.removeprefix("size-"))
    assert linked == 1025 * leaf_bytes
    assert str(root_of(bytes(linked), leaf_bytes, 1024)) == linked_cid


@OPENERS
async def test_a_real_kubo_passes_and_keeps_nothing(store: Store, kubo: Kubo, opened: Opener) -> None:
    before = kubo.ask("refs/local")
    async with opened(store, Endpoint(kubo.rpc), QUICK) as network:
        assert (await network.health()).trouble is None
    assert kubo.ask("refs/local") == before


async def test_a_real_kubo_that_did_not_get_an_option_is_refused(
    store: Store, kubo: Kubo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_kubo(store, Endpoint(kubo.rpc), QUICK) as network:
        for option, value in (
            ("cid-version", "0"),
            ("raw-leaves", "false"),
            ("hash", "sha2-512"),
            ("max-file-links", "174"),
            ("trickle", "true"),
            ("inline", "true"),
        ):
            with monkeypatch.context() as changed:
                changed.setitem(cast("dict[str, str]", adding.PROFILE), option, value)
                try:
                    await check_profile(network._upload)
                except (InvalidError, UnreachableError) as error:
                    assert "makes other CIDs than this node" in str(error)
                else:
                    pytest.fail(f"{option}={value} is not noticed")


def _few_links(fake: FakeKubo) -> None:
    fake.faults.links = 174


def _trickling(fake: FakeKubo) -> None:
    fake.faults.trickle = True


@OPENERS
@pytest.mark.parametrize("harm", [_few_links, _trickling])
async def test_a_daemon_that_links_otherwise_is_refused_and_no_blob_is_uploaded(
    store: Store, fake: FakeKubo, harm: Callable[[FakeKubo], None], opened: Opener
) -> None:
    harm(fake)
    async with opened(store, Endpoint(fake.rpc), QUICK) as network:
        trouble = (await network.health()).trouble
        assert trouble is not None and "makes other CIDs than this node" in trouble and "\n" not in trouble
    assert not fake.blocks and fake.asked.count("add") == 2


@OPENERS
async def test_the_try_is_not_repeated_while_the_daemon_stays(store: Store, fake: FakeKubo, opened: Opener) -> None:
    async with opened(store, Endpoint(fake.rpc), QUICK) as network:
        for _ in range(3):
            assert (await network.health()).trouble is None
        assert fake.asked.count("add") == 2
        fake.peer_id = "12D3KooWAnotherAnotherAnotherAnotherAnotherAnotherAn"
        assert (await network.health()).trouble is None
        assert fake.asked.count("add") == 4


async def test_a_gateway_port_at_which_something_else_answers_is_told_of(store: Store, fake: FakeKubo) -> None:
    fake.faults.gateway_html = True
    async with open_kubo(store, Endpoint(fake.rpc), QUICK) as network:
        trouble = (await network.health()).trouble
        assert trouble == f"Kubo's gateway at {fake.gateway} gives no answer as one: see Addresses.Gateway"
        fake.faults.gateway_html = False
        assert (await network.health()).trouble is None
