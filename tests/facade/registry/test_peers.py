"""Two nodes: what one has pulled, the other gets from it, by the rules of who may be believed."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.facade.machine import Machine, machine, until
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
SECRET = b"a secret of the whole cluster"


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("peers", (9 * MIB, 300_000)), "v1")


async def _pair(
    stack: AsyncExitStack,
    folder: Path,
    registry: FakeRegistry,
    image: FakeImage,
    *,
    secret: bytes | None = None,
    public: bool = True,
) -> tuple[Machine, Machine]:
    """Node a has pulled the image; node b has joined it."""
    a = await stack.enter_async_context(machine(folder / "a", registry, secret=secret, public=public))
    assert (await a.manifest("v1")).status == 200
    for blob in image.blobs:
        assert (await a.blob(blob.digest)).data == blob.data
    b = await stack.enter_async_context(machine(folder / "b", registry, secret=secret, public=public, joins=(a.mesh,)))
    return a, b


def _fetched(one: Machine) -> dict[str, int]:
    return {source: size for source, size in one.metrics.fetched_bytes.items() if size}


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_with_upstream_gone_a_peer_serves_the_image_by_digest(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, secret: bytes | None
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image, secret=secret)
        await until(lambda: all(b.cluster.holders(one.digest) for one in (image.manifest, *image.blobs)))
        await registry.stop()
        assert (await b.manifest(image.manifest.digest)).data == image.manifest.data
        for blob in image.blobs:
            answer = await b.blob(blob.digest)
            assert answer.data == blob.data
            assert answer.source == "peer" or blob in image.layers[1:]  # these were fetched ahead
        assert _fetched(b) == {"peer": image.manifest.size + sum(blob.size for blob in image.blobs)}


async def test_with_upstream_gone_a_members_tag_is_served_with_its_age(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image, secret=SECRET)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        await registry.stop()
        answer = await b.manifest("v1")
        assert answer.data == image.manifest.data
        assert int(answer.headers["Age"]) < 60 and "member a" in answer.headers["Warning"]


async def test_without_a_secret_no_peers_word_says_what_a_tag_means(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        await registry.stop()
        assert (await b.manifest("v1")).status == 404


async def test_with_upstream_there_only_the_tag_is_asked_of_it(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        registry.requests.clear()
        assert (await b.manifest("v1")).source == "peer"
        for blob in image.blobs:
            assert (await b.blob(blob.digest)).data == blob.data
        assert _fetched(b).keys() == {"peer"}
        assert [(seen.kind, seen.method) for seen in registry.requests] == [("manifests", "HEAD")]


async def test_what_a_stranger_gave_is_announced_once_upstream_proved_it_public(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a, b = await _pair(stack, tmp_path, registry, image)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        assert (await b.manifest(image.manifest.digest)).source == "peer"
        await b.blob(image.layers[0].digest)
        await until(lambda: a.cluster.holders(image.layers[0].digest))


async def test_what_is_not_proved_public_never_leaves_the_node(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a, b = await _pair(stack, tmp_path, registry, image, public=False, secret=SECRET)
        await until(lambda: any(peer.member for peer in b.cluster.peers()))
        holding = await a.store.find(image.layers[0].digest)
        assert holding is not None
        assert (await b.ask(f"{a.mesh}/ipfs/{holding.cid}")).status == 404
        changes = await a.store.changes(0, "members")  # type: ignore[arg-type]
        assert changes.entries == () and not b.cluster.holders(image.layers[0].digest)


async def test_a_peer_that_goes_in_the_middle_is_replaced_by_upstream(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        outer = AsyncExitStack()
        a, b = await _pair(outer, tmp_path, registry, image)
        stack.push_async_callback(outer.aclose)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        assert (await b.manifest("v1")).status == 200
        layer = image.layers[0]
        path = a.store.folder / "blobs" / "sha256" / layer.digest.hex[:2] / layer.digest.hex
        path.write_bytes(layer.data[: 2 * MIB])
        assert (await b.blob(layer.digest)).data == layer.data
        assert _fetched(b)["upstream"] > 0


async def test_upstream_faults_do_not_matter_while_a_peer_has_it(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image, secret=SECRET)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        registry.fault("blobs", "*", Fault(silent=True))
        registry.fault("manifests", "*", Fault(silent=True))
        assert (await b.manifest("v1")).data == image.manifest.data
        assert (await b.blob(image.layers[0].digest)).data == image.layers[0].data
        registry.heal()


async def test_while_upstream_asks_for_patience_what_a_member_shares_is_had_by_tag_and_then_by_digest(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        _, b = await _pair(stack, tmp_path, registry, image, secret=SECRET)
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        registry.fault("manifests", "*", Fault(status=429))
        assert (await b.get("/v2/team/app/manifests/v1?ns=docker.io", "HEAD")).status == 200
        assert (await b.manifest(image.manifest.digest)).data == image.manifest.data
