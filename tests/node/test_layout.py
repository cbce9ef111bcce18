"""Image layouts: their index is the same on every node, and what others write is read."""

import json
from typing import Any

import pytest

from node.digest import Digest
from node.errors import InvalidError
from node.layout import (
    LAYOUT,
    ImageName,
    Listed,
    check_layout,
    encode_index,
    others,
    parse_image_name,
    parse_index,
)
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.reference import OWN, Repository, Tag

ALPINE = ImageName(Repository("docker.io", "library/alpine"), Tag("3"))
APP = ImageName(Repository(OWN, "team/app"), Tag("v1"))
ONE = Listed(OCI_MANIFEST, Digest.of(b"one"), 3)
TWO = Listed(OCI_INDEX, Digest.of(b"two"), 3)
REF, NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


def entry(annotations: dict[str, str] | None, **more: Any) -> dict[str, Any]:
    described = {"mediaType": OCI_MANIFEST, "digest": str(ONE.digest), "size": 3}
    return described | ({"annotations": annotations} if annotations is not None else {}) | more


def index(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries} | more).encode()


def test_an_index_is_the_same_whatever_the_order() -> None:
    assert encode_index([(ALPINE, ONE), (APP, TWO)]) == encode_index([(APP, TWO), (ALPINE, ONE), (APP, TWO)])


def test_an_index_is_read_as_it_was_written() -> None:
    listed = parse_index(encode_index([(ALPINE, ONE), (APP, TWO)]))
    assert [(each.name, each.tag) for each in listed] == [("docker.io/library/alpine:3", "3"), ("team/app:v1", "v1")]
    assert [each.digest for each in listed] == [ONE.digest, TWO.digest]


def test_images_that_share_a_tag_are_told_apart_by_their_whole_names() -> None:
    other = ImageName(Repository(OWN, "other"), Tag("v1"))
    entries = json.loads(encode_index([(APP, ONE), (other, TWO), (ALPINE, TWO)]))["manifests"]
    assert [each["annotations"][REF] for each in entries] == ["3", "other:v1", "team/app:v1"]


def test_an_image_without_a_tag_is_named_by_its_digest() -> None:
    ((listed),) = parse_index(encode_index([(ImageName(APP.repository), ONE)]))
    assert (listed.name, listed.tag) == (f"team/app@{ONE.digest}", "")
    assert parse_image_name(listed.name) == ImageName(APP.repository)


@pytest.mark.parametrize(
    ("annotations", "name", "tag"),
    [
        (None, "", ""),
        ({REF: "v1"}, "", "v1"),
        ({REF: "docker.io/library/alpine:3"}, "docker.io/library/alpine:3", ""),
        ({REF: "app:v1"}, "app:v1", ""),
        ({NAME: "docker.io/library/alpine:3", REF: "3"}, "docker.io/library/alpine:3", "3"),
    ],
)
def test_names_are_found_where_other_tools_write_them(annotations: dict[str, str] | None, name: str, tag: str) -> None:
    ((listed),) = parse_index(index(entry(annotations)))
    assert (listed.name, listed.tag) == (name, tag)


def test_what_is_no_image_is_passed_over() -> None:
    data = index(entry(None, mediaType="application/x-other"), entry({REF: "v1"}))
    assert [each.tag for each in parse_index(data)] == ["v1"]


def test_what_else_an_index_lists_is_kept_as_it_stands() -> None:
    theirs = entry({REF: "theirs"}, platform={"os": "linux"})
    kept = others(index(entry({NAME: "team/app:v1"}), theirs), [APP])
    assert kept == [theirs]
    assert json.loads(encode_index([(APP, ONE)], kept))["manifests"][0] == theirs


def test_a_tag_that_something_else_in_the_layout_has_is_written_out() -> None:
    kept = [entry({REF: "v1"})]
    assert json.loads(encode_index([(APP, ONE)], kept))["manifests"][1]["annotations"][REF] == "team/app:v1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("team/app:v1", APP),
        ("docker.io/library/alpine:3", ALPINE),
        ("app", ImageName(Repository(OWN, "app"))),
        ("localhost/app:v1", ImageName(Repository(OWN, "localhost/app"), Tag("v1"))),
        ("127.0.0.1:5000/app:v1", ImageName(Repository("127.0.0.1:5000", "app"), Tag("v1"))),
    ],
)
def test_a_name_without_a_registry_is_of_the_clusters_own(text: str, name: ImageName) -> None:
    assert parse_image_name(text) == name
    assert str(name) == text


def test_a_name_means_what_it_means_in_a_pull() -> None:
    assert parse_image_name("Docker.io/alpine:3") == ALPINE


@pytest.mark.parametrize("text", ["", ":v1", "team/app:", "team//app:v1", "TEAM/app:v1", "../app:v1", "app@sha256:00"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_image_name(text)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "index.json"),
        (b"[" * 100_000, "index.json"),
        (b"{}", "index.json"),
        (index(schemaVersion=1), "schemaVersion 2"),
        (index(), "no image"),
        (index(*[entry(None)] * 1001), "at most 1000"),
        (index(entry(None, size=5 << 20)), "no manifest is so long"),
        (index(entry(None, size=-1)), "no manifest is so long"),
        (index(entry(None, digest="sha256:../../etc/passwd")), "digest"),
        (index(entry({REF: "x/" * 400})), "too long"),
    ],
)
def test_what_is_no_index_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        parse_index(data)


def test_a_layout_of_a_known_version_is_one() -> None:
    check_layout(LAYOUT)
    check_layout(b'{ "imageLayoutVersion": "1.0.0", "more": 1 }')


@pytest.mark.parametrize("data", [b"", b"{}", b'{"imageLayoutVersion":"2.0.0"}', b"1.0.0"])
def test_what_is_no_layout_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError, match="oci-layout"):
        check_layout(data)
