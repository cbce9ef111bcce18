"""Manifests from upstream, over the wire."""

import pytest

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from node.digest import Digest
from node.errors import DeniedError, LayermeshError, MismatchError, NotFoundError, ThrottledError, UnreachableError
from node.manifest import DOCKER_LIST, MANIFEST_TYPES, OCI_INDEX
from node.reference import Repository, Tag
from tests.facade.upstream.conftest import LIMITS, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import Flavour, make_image, make_index
from tests.fakes.registry import FakeRegistry

TAG = Tag("latest")


@pytest.mark.parametrize(("flavour", "media_type"), [(Flavour.OCI, OCI_INDEX), (Flavour.DOCKER, DOCKER_LIST)])
async def test_an_index_comes_by_tag_in_one_request(
    registry: FakeRegistry, upstreams: Upstreams, flavour: Flavour, media_type: str
) -> None:
    index = registry.push("team/app", make_index("seed", (10,), flavour=flavour), "latest")
    fetched = await upstreams.manifest(REPOSITORY, TAG)
    assert fetched.anonymous
    assert (fetched.manifest.data, fetched.manifest.media_type) == (index.manifest.data, media_type)
    (seen,) = registry.requests
    assert seen.headers["Accept"].split(", ") == list(MANIFEST_TYPES)
    assert seen.headers["Accept-Encoding"] == "identity"


async def test_one_connection_serves_many_requests(registry: FakeRegistry, upstreams: Upstreams) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    await upstreams.manifest(REPOSITORY, TAG)
    await upstreams.resolve(REPOSITORY, image.manifest.digest)
    await upstreams.blob_size(REPOSITORY, image.config.digest)
    assert registry.connections == 1


async def test_a_moved_tag_is_seen(registry: FakeRegistry, upstreams: Upstreams) -> None:
    registry.push("team/app", make_image("one", (10,)), "latest")
    await upstreams.manifest(REPOSITORY, TAG)
    moved = registry.push("team/app", make_image("two", (10,)), "latest")
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == moved.manifest.digest


@pytest.mark.parametrize("name", ["alpine", "library/alpine"])
async def test_docker_hub_keeps_short_names_under_library(registry: FakeRegistry, name: str) -> None:
    registry.push("library/alpine", make_image("seed", (10,)), "latest")
    async with Upstreams([UpstreamConfig.parse("docker.io", registry.url)], limits=LIMITS) as upstreams:
        assert await upstreams.manifest(Repository("docker.io", name), TAG)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(flip_at=20),
        Fault(digest="nonsense"),
        Fault(encoding="br"),
        Fault(data=b"x" * (4 * 1024 * 1024 + 1), no_digest=True),
        Fault(data=b"<html>", no_digest=True),
        Fault(data=b'{"schemaVersion":1}', no_digest=True),
        Fault(media_type=DOCKER_LIST),
    ],
)
async def test_a_manifest_that_is_not_what_it_says_is_refused(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", fault)
    with pytest.raises(MismatchError):
        await upstreams.manifest(REPOSITORY, TAG)


async def test_wrong_bytes_of_a_tag_give_way_to_those_that_it_names(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "latest", Fault(flip_at=20))
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.data == image.manifest.data


async def test_a_wrong_digest_in_a_header_counts_for_nothing(registry: FakeRegistry, upstreams: Upstreams) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", Fault(digest="sha256:" + "0" * 64))
    for selector in (TAG, image.manifest.digest):
        assert (await upstreams.manifest(REPOSITORY, selector)).manifest.digest == image.manifest.digest
    assert (await upstreams.resolve(REPOSITORY, image.manifest.digest)).descriptor.digest == image.manifest.digest


async def test_a_manifest_that_comes_as_gzip_is_decoded(registry: FakeRegistry, upstreams: Upstreams) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", Fault(encoding="gzip"))
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.data == image.manifest.data
    assert (await upstreams.resolve(REPOSITORY, TAG)).descriptor.digest == image.manifest.digest


async def test_a_manifest_by_digest_must_hash_to_it_whatever_the_header_says(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    image = registry.push("team/app", make_image("one", (10,)))
    other = make_image("two", (10,)).manifest
    registry.fault("manifests", "*", Fault(data=other.data, digest=str(other.digest)))
    with pytest.raises(MismatchError):
        await upstreams.manifest(REPOSITORY, image.manifest.digest)
    with pytest.raises(MismatchError):
        await upstreams.resolve(REPOSITORY, image.manifest.digest)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=404), NotFoundError),
        (Fault(status=400), NotFoundError),
        (Fault(status=401), DeniedError),
        (Fault(status=403), DeniedError),
        (Fault(status=429), ThrottledError),
        (Fault(status=500), UnreachableError),
        (Fault(status=503), UnreachableError),
        (Fault(status=204), UnreachableError),
        (Fault(reset=True), UnreachableError),
        (Fault(cut_after=10), UnreachableError),
        (Fault(stall_after=10), UnreachableError),
        (Fault(drip=(1, 0.05)), UnreachableError),
    ],
)
async def test_each_failure_has_its_name(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault, error: type[LayermeshError]
) -> None:
    registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", fault)
    with pytest.raises(error):
        await upstreams.manifest(REPOSITORY, TAG)


async def test_a_manifest_that_breaks_off_is_asked_for_once_more(registry: FakeRegistry, upstreams: Upstreams) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "*", Fault(cut_after=10, times=1))
    assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
    assert len(registry.requests) == 2


async def test_patience_asked_for_is_passed_on(registry: FakeRegistry, upstreams: Upstreams) -> None:
    registry.fault("manifests", "*", Fault(status=429, retry_after="17"))
    with pytest.raises(ThrottledError) as caught:
        await upstreams.resolve(REPOSITORY, TAG)
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(
    "fault",
    [Fault(), Fault(no_digest=True), Fault(chunked=True), Fault(status=405, method="HEAD"), Fault(media_type="a/b")],
)
async def test_a_tag_is_resolved_whatever_the_head_leaves_out(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    registry.fault("manifests", "latest", fault)
    found = (await upstreams.resolve(REPOSITORY, TAG)).descriptor
    assert (found.digest, found.size) == (image.manifest.digest, image.manifest.size)
    assert found.media_type == image.manifest.media_type


async def test_an_unknown_namespace_is_never_dialled(registry: FakeRegistry, upstreams: Upstreams) -> None:
    assert not upstreams.serves(registry.address)
    with pytest.raises(NotFoundError):
        await upstreams.manifest(Repository(registry.address, "team/app"), TAG)
    with pytest.raises(NotFoundError):
        await upstreams.prove_public(Repository(registry.address, "team/app"), Digest.of(b""))
    assert not registry.requests


async def test_every_exchange_is_counted(registry: FakeRegistry) -> None:
    counted: list[tuple[str, str]] = []
    config = UpstreamConfig.parse("corp.test", registry.url)
    async with Upstreams([config], limits=LIMITS, on_request=lambda name, code, _: counted.append((name, code))) as up:
        with pytest.raises(NotFoundError):
            await up.manifest(REPOSITORY, TAG)
        await registry.stop()
        with pytest.raises(UnreachableError):
            await up.manifest(REPOSITORY, TAG)
    assert counted == [("corp.test", "404"), *[("corp.test", "error")] * LIMITS.retry.tries]
