"""Requests that no client should send: an answer that says so, never a defect of ours, and nothing written."""

import random

import pytest

from node.digest import Digest
from node.manifest import OCI_MANIFEST
from tests.facade.machine import Machine
from tests.facade.pusher import Pusher
from tests.fakes.images import make_image

DIGEST = Digest.of(b"x")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
READS = {"GET", "HEAD"}
PATHS = {
    "manifests/v1": READS | {"PUT", "DELETE"},
    f"manifests/{DIGEST}": READS | {"PUT", "DELETE"},
    f"blobs/{DIGEST}": READS | {"DELETE"},
    "blobs/uploads/": {"POST"},
    f"blobs/uploads/{'0' * 32}": {*READS, "PUT", "PATCH", "DELETE"},
    "tags/list": READS,
    f"referrers/{DIGEST}": READS,
}


async def written(node: Machine) -> bool:
    """Whether anything of own repositories was."""
    uploads = any((node.store.folder / "uploads").iterdir())
    return uploads or node.store.owned.generation > 0


def failed(node: Machine) -> bool:
    """Whether a defect of ours was answered with."""
    return any(code == "500" for _, _, code in node.metrics._server)


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_means_nothing_is_405_with_those_that_do(node: Machine, path: str) -> None:
    for method in METHODS:
        if method not in PATHS[path]:
            answer = await Pusher(node).send(method, path)
            assert answer.status == 405, method
            assert {*answer.headers["Allow"].split(", ")} == PATHS[path]
            assert b"UNSUPPORTED" in answer.data or method == "HEAD"
    assert not await written(node)


@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/_catalog"])
async def test_nothing_is_written_to_what_is_no_repository(node: Machine, path: str) -> None:
    for method in METHODS:
        answer = await Pusher(node).send(method, path) if path != "/v2" else await node.get(path, method)
        assert answer.status == (200 if method in READS else 405), method
        assert method in READS or answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", ["/v2/docker.io/team/app/{}", "/v2/team/app/{}?ns=docker.io"])
async def test_a_mirrored_repository_is_read_only_in_every_form(node: Machine, form: str, path: str) -> None:
    for method in METHODS:
        for url in (node.facade + form.format(path), f"{node.docker}/v2/team/app/{path}"):
            answer = await node.ask(url, method, body=b"x" if method in ("PUT", "POST", "PATCH") else None)
            assert answer.status == (405 if method not in READS or "uploads" in path else answer.status), (method, url)
            assert answer.status in (404, 405), (method, url)
    assert not await written(node) and not failed(node)


@pytest.mark.parametrize("namespace", ["local", "LOCAL", "localhost", "", "."])
async def test_own_repositories_are_no_namespace_that_can_be_asked_for(node: Machine, namespace: str) -> None:
    await Pusher(node).image(make_image("own", (1000,)), "v1")
    answer = await node.get(f"/v2/team/app/manifests/v1?ns={namespace}")
    assert answer.status in (400, 404)
    answer = await node.get(f"/v2/team/app/blobs/uploads/?ns={namespace}", "POST")
    assert answer.status in (400, 404, 405)


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "a..b",
        "a//b",
        "-a",
        "a-",
        ".a",
        "a/",
        "../../etc",
        "a/../b",
        "a%2fb",
        "a b",
        "\u00e9",
        "a" * 256,
        "_",
        "a:b",
        "@",
    ],
)
async def test_a_malformed_name_is_refused_by_every_method(node: Machine, name: str) -> None:
    pusher = Pusher(node, name)
    for path, methods in PATHS.items():
        for method in methods - {"HEAD"}:
            answer = await pusher.send(
                method, f"/v2/{name}/{path}".replace("\u00e9", "%C3%A9").replace(" ", "%20"), b"{}"
            )
            assert answer.status in (400, 404, 405), (method, path)
    assert not await written(node) and not failed(node)


@pytest.mark.parametrize(
    "selector",
    [
        ".x",
        "-x",
        "x" * 129,
        "a%20b",
        "sha256:x",
        f"sha256:{'A' * 64}",
        "sha1:00",
        f"{DIGEST}0",
        ":",
        "a:b:c",
        "%00",
        "~",
    ],
)
async def test_a_malformed_tag_or_digest_is_refused_by_every_method(node: Machine, selector: str) -> None:
    pusher = Pusher(node)
    for method in ("GET", "PUT", "DELETE"):
        for kind in ("manifests", "blobs", "referrers") if ":" in selector else ("manifests",):
            answer = await pusher.send(method, f"{kind}/{selector}", b"{}", {"Content-Type": OCI_MANIFEST})
            assert answer.status in (400, 405), (method, kind)
    assert not await written(node) and not failed(node)


@pytest.mark.parametrize("upload", ["x", "0" * 31, "0" * 33, "..", "%2e%2e", "A" * 32, "0" * 32 + ".json", "a" * 5000])
async def test_a_malformed_upload_is_not_there(node: Machine, upload: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = await Pusher(node).send(method, f"blobs/uploads/{upload}?digest={DIGEST}", b"x")
        assert answer.status in (400, 404), method
    assert not await written(node) and not failed(node)


_TEXTS = ["", "x", str(DIGEST), "0-0", "5-1", "%00", "%F0%9F%92%A9", "%ff", "-1", "9" * 25, "team/app", "..", "sha512:"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_parts_of_a_request_are_it_is_no_defect_of_ours(node: Machine, seed: int) -> None:
    order = random.Random(seed)
    pusher = Pusher(node, "team/fuzzed")
    where = await pusher.begin()
    paths = [*PATHS, where, "manifests/..", "uploads/x", "blobs/uploads", "tags/", "referrers/", "manifests/"]
    for _ in range(120):
        names = order.sample(["digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm"], 3)
        query = "&".join(f"{name}={order.choice(_TEXTS)}" for name in names)
        headers = {"Content-Type": order.choice([OCI_MANIFEST, "x", "", "a/b; c"])}
        if order.random() < 0.5:
            headers["Content-Range"] = order.choice(["0-0", "1-1", "x", "0-99", "bytes 0-1/*", "9-1"])
        if order.random() < 0.3:
            headers["Range"] = order.choice(["bytes=0-", "bytes=9-1", "x", "bytes=-0"])
        body = order.choice([None, b"x", b"{}", b"\xff", b"[]"])
        answer = await pusher.send(order.choice(METHODS), f"{order.choice(paths)}?{query}", body, headers)
        assert answer.status < 500, (query, headers, body, answer)
    assert not failed(node)
