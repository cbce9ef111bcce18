"""What a tag means while upstream moves it, or is silent: under each policy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from facade.upstream.config import UpstreamConfig
from facade.upstream.tags import TagPolicy
from tests.facade.machine import Machine, machine, until
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

SECRET = b"a secret of the whole cluster"


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("policy", (100_000,)), "v1")


@asynccontextmanager
async def pulled(
    folder: Path, registry: FakeRegistry, image: FakeImage, rule: str, pattern: str = "*"
) -> AsyncIterator[Machine]:
    """A node under this rule that has the whole image."""
    tags = ((pattern, TagPolicy.parse(rule)),)
    urls = UpstreamConfig.parse("docker.io", registry.url).urls
    async with machine(
        folder, registry, upstreams=(UpstreamConfig("docker.io", urls, public=True, tags=tags),)
    ) as node:
        assert (await node.manifest("v1")).data == image.manifest.data
        for blob in image.blobs:
            await node.blob(blob.digest)
            await node.landed(blob.digest)
        registry.requests.clear()
        yield node


@pytest.mark.parametrize("rule", ["ttl=1h", "pinned"])
async def test_what_upstream_said_holds_and_it_is_not_asked(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, rule: str
) -> None:
    async with pulled(tmp_path, registry, image, rule) as node:
        registry.push("team/app", make_image("moved"), "v1")
        for _ in range(3):
            answer = await node.manifest("v1")
            assert (answer.data, answer.source) == (image.manifest.data, "local")
            assert "Warning" not in answer.headers
        assert not registry.requests


@pytest.mark.parametrize("rule", ["ttl=0", "stale-if-error", "upstream"])
async def test_a_moved_tag_is_seen_at_once(tmp_path: Path, registry: FakeRegistry, image: FakeImage, rule: str) -> None:
    async with pulled(tmp_path, registry, image, rule) as node:
        moved = registry.push("team/app", make_image("moved"), "v1")
        assert (await node.manifest("v1")).data == moved.manifest.data


@pytest.mark.parametrize("rule", ["ttl=0", "stale-if-error"])
@pytest.mark.parametrize("fault", [Fault(status=500), Fault(silent=True), Fault(status=429, retry_after="60")])
async def test_what_the_tag_meant_last_is_served_with_its_age_while_upstream_cannot_answer(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, rule: str, fault: Fault
) -> None:
    async with pulled(tmp_path, registry, image, rule) as node:
        registry.fault("manifests", "*", fault)
        answer = await node.manifest("v1")
        assert answer.data == image.manifest.data
        assert "this node" in answer.headers["Warning"] and "Age" in answer.headers
        registry.heal()


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(silent=True), Fault(data=b"{}", method="GET")])
async def test_under_upstream_nothing_else_says_what_a_tag_means(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, fault: Fault
) -> None:
    async with pulled(tmp_path, registry, image, "upstream") as node:
        registry.push("team/app", make_image("moved"), "v1")
        registry.fault("manifests", "*", fault)
        assert (await node.get("/v2/docker.io/team/app/manifests/v1")).status == 503
        registry.heal()


@pytest.mark.parametrize("rule", ["ttl=1h", "pinned", "stale-if-error"])
async def test_a_tag_that_upstream_deleted_is_gone_where_it_is_asked(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, rule: str
) -> None:
    async with pulled(tmp_path, registry, image, rule) as node:
        registry.delete("team/app", "v1")
        assert (await node.manifest("v1")).status == (404 if rule == "stale-if-error" else 200)


async def test_a_pattern_leaves_other_tags_alone(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with pulled(tmp_path, registry, image, "pinned", pattern="v2*") as node:
        moved = registry.push("team/app", make_image("moved"), "v1")
        assert (await node.manifest("v1")).data == moved.manifest.data


async def test_what_upstream_said_holds_over_a_restart(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with pulled(tmp_path, registry, image, "pinned"):
        pass
    await registry.stop()
    tags = (("v*", TagPolicy.parse("pinned")),)
    urls = UpstreamConfig.parse("docker.io", registry.url).urls
    config = UpstreamConfig("docker.io", urls, public=True, tags=tags)
    async with machine(tmp_path, registry, upstreams=(config,)) as node:
        answer = await node.manifest("v1")
        assert answer.data == image.manifest.data and "Warning" not in answer.headers


@pytest.mark.parametrize("rule", ["ttl=1h", "pinned"])
async def test_a_members_word_does_not_stand_in_for_upstream_while_that_answers(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, rule: str
) -> None:
    tags = (("*", TagPolicy.parse(rule)),)
    urls = UpstreamConfig.parse("docker.io", registry.url).urls
    config = UpstreamConfig("docker.io", urls, public=True, tags=tags)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", registry, secret=SECRET))
        await a.manifest("v1")
        for blob in image.blobs:
            await a.blob(blob.digest)
        b = await stack.enter_async_context(
            machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,), upstreams=(config,))
        )
        await until(lambda: b.cluster.holders(image.layers[0].digest))
        moved = registry.push("team/app", make_image("moved"), "v1")
        assert (await b.manifest("v1")).data == moved.manifest.data
