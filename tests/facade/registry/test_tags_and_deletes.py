"""Tag lists and deletions (OCI distribution specification 1.1, "Listing Tags" and "Content Management")."""

import json
import re

import pytest

from node.digest import Digest
from node.manifest import OCI_INDEX
from tests.facade.machine import Machine
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image

TAGS = ("10", "9", "A", "Z", "_under", "a", "a-b", "a.b", "b")


@pytest.fixture
def pusher(node: Machine) -> Pusher:
    return Pusher(node)


@pytest.fixture
def image() -> FakeImage:
    return make_image("tags", (1000,))


@pytest.fixture
async def tagged(pusher: Pusher, image: FakeImage) -> Pusher:
    await pusher.image(image, TAGS[0])
    for tag in reversed(TAGS[1:]):
        assert (await pusher.manifest(tag, image.manifest.data)).status == 201
    return pusher


async def tags(pusher: Pusher, query: str = "") -> tuple[list[str], str]:
    """The tags of one answer, and where the next are."""
    answer = await pusher.send("GET", f"tags/list{query}" if query.startswith("?") or not query else query)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    found = json.loads(answer.data)
    assert found["name"] == pusher.name
    link = re.fullmatch(r'<(/v2/.+)>; rel="next"', answer.headers.get("Link", ""))
    return found["tags"], link[1] if link else ""


async def test_all_tags_come_in_the_order_of_their_bytes(tagged: Pusher) -> None:
    assert await tags(tagged) == (sorted(TAGS), "")


@pytest.mark.parametrize("count", [1, 2, 4, len(TAGS) - 1])
async def test_links_lead_through_all_tags(tagged: Pusher, count: int) -> None:
    found, following = await tags(tagged, f"?n={count}")
    while following:
        more, following = await tags(tagged, following)
        assert 0 < len(more) <= count
        found += more
    assert found == sorted(TAGS)


@pytest.mark.parametrize("count", [len(TAGS), len(TAGS) + 1, 10**8])
async def test_where_all_fit_there_is_no_link(tagged: Pusher, count: int) -> None:
    assert await tags(tagged, f"?n={count}") == (sorted(TAGS), "")


async def test_none_are_asked_for(tagged: Pusher) -> None:
    for query in ("?n=0", "?n=0&last=A"):
        assert await tags(tagged, query) == ([], "")


async def test_last_is_left_out_whether_it_is_there_or_not(tagged: Pusher) -> None:
    for last in ("A", "B", "", "zzz", "%00", "%ff", "x" * 2000):
        expected = [tag for tag in sorted(TAGS) if tag > last] if "%" not in last else None
        found, _ = await tags(tagged, f"?last={last}")
        assert expected is None or found == expected
        assert (await tags(tagged, f"?n=1&last={last}"))[0] == found[:1]


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "", "%20", "1e3", "9" * 30, "\u0661"])
async def test_a_malformed_number_is_refused(tagged: Pusher, count: str) -> None:
    for path in (f"tags/list?n={count}", f"/v2/_catalog?n={count}"):
        assert (await tagged.send("GET", path)).status == 400


async def test_the_tags_of_nothing_are_not_there_and_of_an_emptied_repository_none(
    tagged: Pusher, image: FakeImage
) -> None:
    answer = await Pusher(tagged.machine, "team/none").send("GET", "tags/list")
    assert (answer.status, b"NAME_UNKNOWN" in answer.data) == (404, True)
    assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
    assert await tags(tagged) == ([], "")


async def test_repositories_are_listed(tagged: Pusher, image: FakeImage) -> None:
    await Pusher(tagged.machine, "a/b").image(image, "x")
    answer = await tagged.send("GET", "/v2/_catalog?n=1")
    assert json.loads(answer.data) == {"repositories": ["a/b"]}
    assert answer.headers["Link"] == '</v2/_catalog?n=1&last=a%2Fb>; rel="next"'
    assert json.loads((await tagged.send("GET", "/v2/_catalog")).data) == {"repositories": ["a/b", "team/app"]}


async def test_a_deleted_tag_is_gone_and_its_manifest_is_not(tagged: Pusher, image: FakeImage) -> None:
    for _ in range(2):
        assert (await tagged.send("GET", "manifests/A")).status == 200  # from memory, the second time
    assert (await tagged.send("DELETE", "manifests/A")).status == 202
    for method in ("GET", "HEAD", "DELETE"):
        assert (await tagged.send(method, "manifests/A")).status == 404
    assert "A" not in (await tags(tagged))[0]
    for selector in ("Z", image.manifest.digest):
        assert (await tagged.send("GET", f"manifests/{selector}")).data == image.manifest.data


async def test_a_deleted_manifest_is_gone_with_its_tags_and_no_other(tagged: Pusher, image: FakeImage) -> None:
    other = make_image("other", (1000,))
    await tagged.image(other, "other")
    assert (await tagged.send("GET", f"manifests/{image.manifest.digest}")).status == 200
    assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
    for selector in (*TAGS, image.manifest.digest):
        for method in ("GET", "HEAD", "DELETE"):
            assert (await tagged.send(method, f"manifests/{selector}")).status == 404, (method, selector)
    assert await tags(tagged) == (["other"], "")
    assert (await tagged.send("GET", "manifests/other")).data == other.manifest.data
    assert (await tagged.send("GET", f"blobs/{image.blobs[0].digest}")).status == 200


async def test_a_deleted_blob_is_gone_from_its_repository_alone(tagged: Pusher, image: FakeImage) -> None:
    layer = image.layers[0]
    other = Pusher(tagged.machine, "team/other")
    await other.image(image, "v1")
    assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
    assert (await tagged.send("DELETE", f"blobs/{layer.digest}")).status == 202
    for method in ("GET", "HEAD", "DELETE"):
        answer = await tagged.send(method, f"blobs/{layer.digest}")
        assert answer.status == 404, method
        assert method == "HEAD" or b"BLOB_UNKNOWN" in answer.data
    assert (await other.send("GET", f"blobs/{layer.digest}")).data == layer.data
    await tagged.blob(layer.data)
    assert (await tagged.send("GET", f"blobs/{layer.digest}")).data == layer.data


async def test_a_blob_that_a_manifest_names_is_not_deleted(tagged: Pusher, image: FakeImage) -> None:
    for _ in range(2):
        for blob in image.blobs:
            answer = await tagged.send("DELETE", f"blobs/{blob.digest}")
            assert (answer.status, b"DENIED" in answer.data) == (405, True)
            assert str(image.manifest.digest).encode() in answer.data
            assert (await tagged.send("GET", f"blobs/{blob.digest}")).data == blob.data
    assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
    for blob in image.blobs:
        assert (await tagged.send("DELETE", f"blobs/{blob.digest}")).status == 202


async def test_a_manifest_whose_blob_was_deleted_elsewhere_meanwhile_is_gone_until_it_is_pushed_again(
    tagged: Pusher, image: FakeImage
) -> None:
    layer, owned = image.layers[0], tagged.machine.store.owned
    assert (await tagged.send("GET", "manifests/A")).status == 200
    await owned.delete_blob(tagged.name, layer.digest)  # as another member's record would
    for selector in ("A", image.manifest.digest):
        answer = await tagged.send("GET", f"manifests/{selector}")
        assert (answer.status, b"MANIFEST_UNKNOWN" in answer.data) == (404, True)
    await tagged.blob(layer.data)
    assert (await tagged.send("GET", "manifests/A")).data == image.manifest.data


async def test_what_was_deleted_can_be_pushed_again(tagged: Pusher, image: FakeImage) -> None:
    for _ in range(3):
        assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
        assert (await tagged.manifest("again", image.manifest.data)).status == 201
        assert (await tagged.send("GET", "manifests/again")).data == image.manifest.data


async def test_what_is_not_there_cannot_be_deleted(pusher: Pusher) -> None:
    digest = Digest.of(b"nothing")
    for path, code in (
        ("manifests/v1", b"MANIFEST_UNKNOWN"),
        (f"manifests/{digest}", b"MANIFEST_UNKNOWN"),
        (f"blobs/{digest}", b"BLOB_UNKNOWN"),
    ):
        answer = await pusher.send("DELETE", path)
        assert (answer.status, code in answer.data) == (404, True)


async def test_a_child_that_is_deleted_leaves_its_index(tagged: Pusher, image: FakeImage) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.manifest.described]}).encode()
    assert (await tagged.manifest("index", data, OCI_INDEX)).status == 201
    assert (await tagged.send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
    assert (await tagged.send("GET", "manifests/index")).data == data
    assert (await tags(tagged))[0] == ["index"]
