"""Pushing manifests (OCI distribution specification 1.1, "Pushing Manifests"): the exact bytes, or a clean no."""

import json
from typing import Any

import pytest

from node.digest import Algorithm, Digest
from node.manifest import DOCKER_LIST, DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST
from tests.facade.machine import Machine
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, Flavour, make_image

EMPTY = b"{}"
NOWHERE = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'ab' * 32}", "size": 7}
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@pytest.fixture
def pusher(node: Machine) -> Pusher:
    return Pusher(node)


@pytest.fixture
def image() -> FakeImage:
    return make_image("manifests", (1000,))


def described(data: bytes, media_type: str = "application/vnd.oci.empty.v1+json") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def document(**more: Any) -> bytes:
    """A manifest that names the empty blob alone."""
    plain = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described(EMPTY), "layers": []}
    return json.dumps({**plain, **more}).encode()


def index(*named: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named, **more}).encode()


async def pulls(pusher: Pusher, selector: object, data: bytes, media_type: str = OCI_MANIFEST) -> bool:
    """Whether a manifest is answered with its exact bytes, by GET and HEAD, with what every answer must say."""
    got, head = [await pusher.send(method, f"manifests/{selector}") for method in ("GET", "HEAD")]
    assert head.status == got.status
    if got.status == 404:
        return False
    algorithm = selector.algorithm if isinstance(selector, Digest) else Algorithm.SHA256
    for answer in (got, head):
        assert answer.headers["Docker-Content-Digest"] == str(Digest.of(data, algorithm))
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Length"] == str(len(data))
    return got.data == data


@pytest.mark.parametrize("flavour", Flavour)
async def test_a_manifest_is_pulled_as_it_was_pushed_by_tag_and_digest(pusher: Pusher, flavour: Flavour) -> None:
    image = make_image("flavoured", (1000,), flavour=flavour)
    await pusher.image(image, "v1")
    for selector in ("v1", image.manifest.digest):
        assert await pulls(pusher, selector, image.manifest.data, image.manifest.media_type)


async def test_what_a_push_is_answered_with(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    data = document()
    for selector in ("v1", Digest.of(data), Digest.of(data, Algorithm.SHA512)):
        answer = await pusher.manifest(selector, data)
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v2/team/app/manifests/{selector}"
        algorithm = selector.algorithm if isinstance(selector, Digest) else Algorithm.SHA256
        assert answer.headers["Docker-Content-Digest"] == str(Digest.of(data, algorithm))
        assert "OCI-Subject" not in answer.headers and "OCI-Tag" not in answer.headers


@pytest.mark.parametrize("space", [b" ", b"\n\t ", b"\r\n"])
async def test_bytes_around_and_unknown_fields_are_kept(pusher: Pusher, space: bytes) -> None:
    await pusher.blob(EMPTY)
    data = space + document(annotations={"é": "\u2028"}, **{"x.unknown": [1, {"y": None}]}) + space
    assert (await pusher.manifest("v1", data)).status == 201
    assert await pulls(pusher, "v1", data)


async def test_a_manifest_of_sha512_with_a_config_of_sha512(pusher: Pusher) -> None:
    config = {**described(EMPTY), "digest": str(Digest.of(EMPTY, Algorithm.SHA512))}
    await pusher.blob(EMPTY, Digest.of(EMPTY, Algorithm.SHA512))
    data = document(config=config)
    digest = Digest.of(data, Algorithm.SHA512)
    answer = await pusher.send("PUT", f"manifests/{digest}?tag=v5", data, {"Content-Type": OCI_MANIFEST})
    assert (answer.status, answer.headers["OCI-Tag"]) == (201, "v5")
    assert await pulls(pusher, digest, data)
    got = await pusher.send("GET", "manifests/v5")
    assert (got.data, got.headers["Docker-Content-Digest"]) == (data, str(digest))


async def test_a_manifest_of_four_mebibytes_is_kept_and_one_byte_more_is_refused(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    data = document()
    data += b" " * (MAX_MANIFEST_BYTES - len(data))
    assert (await pusher.manifest("v1", data)).status == 201
    assert await pulls(pusher, "v1", data)
    answer = await pusher.manifest("v2", data + b" ")
    assert (answer.status, b"SIZE_INVALID" in answer.data) == (413, True)
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    assert await pusher.stream("PUT", "/v2/team/app/manifests/v2", [*pieces, b" "]) == 413
    assert not await pulls(pusher, "v2", data)


@pytest.mark.parametrize("parameters", ["; charset=utf-8", ";charset=utf-8;x=y", " ; q=1"])
async def test_parameters_of_a_content_type_are_ignored(pusher: Pusher, parameters: str) -> None:
    await pusher.blob(EMPTY)
    assert (await pusher.manifest("v1", document(), OCI_MANIFEST + parameters)).status == 201
    assert await pulls(pusher, "v1", document())


async def test_a_manifest_without_a_media_type_has_the_one_it_was_pushed_with(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    plain = json.loads(document())
    del plain["mediaType"]
    data = json.dumps(plain).encode()
    for tag, given in (("oci", OCI_MANIFEST), ("docker", DOCKER_MANIFEST)):
        repository = Pusher(pusher.machine, f"team/{tag}")
        await repository.blob(EMPTY)
        assert (await repository.manifest("v1", data, given)).status == 201
        assert await pulls(repository, "v1", data, given)


@pytest.mark.parametrize(
    ("data", "given"),
    [
        (document(), OCI_INDEX),
        (document(), DOCKER_MANIFEST),
        (document(mediaType=DOCKER_LIST), DOCKER_LIST),
        (document(mediaType="text/html"), "text/html"),
        (document(mediaType=5), OCI_MANIFEST),
        (document(manifests=[]), OCI_MANIFEST),
        (index(mediaType=OCI_MANIFEST), OCI_MANIFEST),
        (index(config=described(EMPTY)), OCI_INDEX),
        (document(schemaVersion=1), OCI_MANIFEST),
        (document(config=None), OCI_MANIFEST),
        (document(config={"digest": "sha256:x", "size": 2}), OCI_MANIFEST),
        (document(config={**described(EMPTY), "size": -1}), OCI_MANIFEST),
        (document(config={**described(EMPTY), "size": 3}), OCI_MANIFEST),
        (document(config={**described(EMPTY), "size": 10**30}), OCI_MANIFEST),
        (document(config={**described(EMPTY), "size": "2"}), OCI_MANIFEST),
        (document(layers="x"), OCI_MANIFEST),
        (document(layers=[described(EMPTY)] * 5000), OCI_MANIFEST),
        (document(subject={"digest": "nothing", "size": 1}), OCI_MANIFEST),
        (document(artifactType="x" * 256), OCI_MANIFEST),
        (document(artifactType="application/\u00fcber"), OCI_MANIFEST),
        (document(artifactType="a\nb"), OCI_MANIFEST),
        (b"", OCI_MANIFEST),
        (b"null", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b"\xff\xfe", OCI_MANIFEST),
        (document()[:-1], OCI_MANIFEST),
        (document() + b"x", OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        (document().replace(b'"layers": []', b'"artifactType": "\\ud800", "layers": []'), OCI_MANIFEST),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_manifest_is_refused_and_changes_nothing(pusher: Pusher, data: bytes, given: str) -> None:
    await pusher.blob(EMPTY)
    for selector in ("v1", Digest.of(data)):
        answer = await pusher.manifest(selector, data, given)
        assert (answer.status, b"INVALID" in answer.data) == (400, True), answer
    assert json.loads((await pusher.send("GET", "tags/list")).data)["tags"] == []
    assert not await pulls(pusher, Digest.of(data), data)


async def test_a_manifest_under_a_digest_that_is_not_its_own_is_refused(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    for digest in (Digest.of(b"x"), Digest.of(b"x", Algorithm.SHA512)):
        answer = await pusher.manifest(digest, document())
        assert (answer.status, b"DIGEST_INVALID" in answer.data) == (400, True)
        assert not await pulls(pusher, digest, document())


async def test_what_a_manifest_names_must_be_in_its_own_repository(node: Machine, image: FakeImage) -> None:
    await Pusher(node, "team/one").image(image, "v1")
    answer = await Pusher(node, "team/two").manifest("v1", image.manifest.data, image.manifest.media_type)
    assert (answer.status, b"MANIFEST_BLOB_UNKNOWN" in answer.data) == (404, True)
    answer = await Pusher(node, "team/two").manifest("v1", index(image.manifest.described), OCI_INDEX)
    assert (answer.status, b"MANIFEST_BLOB_UNKNOWN" in answer.data) == (404, True)


async def test_a_layer_that_is_not_to_be_distributed_need_not_be_there(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    layer = {"mediaType": FOREIGN, "digest": f"sha256:{'cd' * 32}", "size": 9, "urls": ["http://127.0.0.1:1/x"]}
    data = document(layers=[layer])
    assert (await pusher.manifest("v1", data)).status == 201
    assert await pulls(pusher, "v1", data)
    assert (await pusher.send("GET", f"blobs/{layer['digest']}")).status == 404


async def test_indexes_within_indexes_and_empty_ones(pusher: Pusher, image: FakeImage) -> None:
    await pusher.image(image, "one")
    inner = index(image.manifest.described)
    assert (await pusher.manifest(Digest.of(inner), inner, OCI_INDEX)).status == 201
    outer = index(described(inner, OCI_INDEX), image.manifest.described)
    for tag, data in (("outer", outer), ("empty", index())):
        assert (await pusher.manifest(tag, data, OCI_INDEX)).status == 201
        assert await pulls(pusher, tag, data, OCI_INDEX)
    assert (await pusher.manifest("bad", index(NOWHERE), OCI_INDEX)).status == 404


async def test_an_artifact_without_layers_and_one_with_its_own_type(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    without = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described(EMPTY)}).encode()
    typed = document(artifactType="application/vnd.example+type", layers=[described(EMPTY)])
    for tag, data in (("without", without), ("typed", typed)):
        assert (await pusher.manifest(tag, data)).status == 201
        assert await pulls(pusher, tag, data)


async def test_tags_are_given_with_a_push_by_digest(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    data = document()
    tags = [f"t{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "t0"])
    answer = await pusher.send("PUT", f"manifests/{Digest.of(data)}?{query}", data, {"Content-Type": OCI_MANIFEST})
    assert answer.status == 201
    assert set(answer.headers["OCI-Tag"].split(", ")) == set(tags)
    assert json.loads((await pusher.send("GET", "tags/list")).data)["tags"] == sorted(tags)


async def test_too_many_or_malformed_tags_write_nothing(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    data = document()
    for status, query in ((414, "&".join(f"tag=t{number}" for number in range(65))), (400, "tag=ok&tag=-no")):
        answer = await pusher.send("PUT", f"manifests/{Digest.of(data)}?{query}", data, {"Content-Type": OCI_MANIFEST})
        assert answer.status == status
    assert not await pulls(pusher, Digest.of(data), data)


async def test_a_manifest_that_broke_off_writes_nothing(pusher: Pusher) -> None:
    await pusher.blob(EMPTY)
    data = document()
    await pusher.raw(f"PUT /v2/team/app/manifests/v1\nContent-Length: {len(data) + 1}", data)
    assert not await pulls(pusher, "v1", data)


async def test_a_tag_that_moves_while_an_answer_is_made_is_not_remembered_as_it_was(
    node: Machine, pusher: Pusher, image: FakeImage
) -> None:
    other = make_image("moved", (1000,))
    await pusher.image(image, "v1")
    await pusher.image(other, "other")
    original = node.store.load

    async def load(digest: Digest, limit: int = MAX_MANIFEST_BYTES) -> bytes:
        data = await original(digest, limit)
        if digest == image.manifest.digest:
            assert (await pusher.manifest("v1", other.manifest.data)).status == 201
        return data

    node.store.load = load  # type: ignore[method-assign]
    await pusher.send("GET", "manifests/v1")
    node.store.load = original  # type: ignore[method-assign]
    for _ in range(2):
        assert (await pusher.send("GET", "manifests/v1")).data == other.manifest.data
