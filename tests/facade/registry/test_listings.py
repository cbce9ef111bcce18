"""Tags and referrers of mirrored repositories: upstream's own lists, page by page. Another node plays the upstream."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facade.upstream.config import UpstreamConfig
from node.manifest import OCI_INDEX, OCI_MANIFEST
from tests.facade.machine import Machine, machine
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

TAGS = ("v1", "v2", "v3")


@pytest.fixture
async def image() -> FakeImage:
    return make_image("listed", (1000,))


@pytest.fixture
async def upstream(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> AsyncIterator[Machine]:
    async with machine(tmp_path / "upstream", registry) as one:
        for tag in TAGS:
            await Pusher(one).image(image, tag)
        yield one


@pytest.fixture
async def mirror(tmp_path: Path, registry: FakeRegistry, upstream: Machine) -> AsyncIterator[Machine]:
    config = UpstreamConfig.parse("corp.test", upstream.facade)
    async with machine(tmp_path / "mirror", registry, upstreams=(config,)) as one:
        yield one


@pytest.mark.parametrize("path", ["/v2/corp.test/team/app/tags/list?", "/v2/team/app/tags/list?ns=corp.test&"])
async def test_tags_are_upstreams_and_its_next_page_is_found_here(mirror: Machine, path: str) -> None:
    found: list[str] = []
    target: str | None = f"{path}n=2"
    while target:
        answer = await mirror.get(target)
        assert answer.status == 200
        found += json.loads(answer.data)["tags"]
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        target = link[1] if link else None
    assert tuple(found) == TAGS


async def test_referrers_are_upstreams_with_its_filter(mirror: Machine, upstream: Machine, image: FakeImage) -> None:
    config = await Pusher(upstream).blob(b"{}")
    referrer = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.test.sbom",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(config), "size": 2},
        "layers": [],
        "subject": image.manifest.described,
    }
    await Pusher(upstream).manifest("sbom", json.dumps(referrer).encode())
    path = f"/v2/corp.test/team/app/referrers/{image.manifest.digest}"
    answer = await mirror.get(path)
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert [each["artifactType"] for each in json.loads(answer.data)["manifests"]] == ["application/vnd.test.sbom"]
    answer = await mirror.get(f"{path}?artifactType=other")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert json.loads(answer.data)["manifests"] == []


async def test_a_repository_that_upstream_does_not_have_is_unknown(mirror: Machine) -> None:
    answer = await mirror.get("/v2/corp.test/no/such/tags/list")
    assert answer.status == 404 and b"NAME_UNKNOWN" in answer.data
