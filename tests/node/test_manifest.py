"""Manifests and indexes, and what only looks like one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.digest import Digest
from node.errors import InvalidError
from node.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Role, parse_manifest

NAMED = {"mediaType": "application/x", "digest": str(Digest.of(b"x")), "size": 1}
IMAGE = {"schemaVersion": 2, "config": NAMED, "layers": [NAMED, NAMED]}
INDEX = {"schemaVersion": 2, "manifests": [{**NAMED, "mediaType": OCI_MANIFEST}]}


def data(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "content_type", "media_type"),
    [
        (IMAGE, None, OCI_MANIFEST),
        (INDEX, None, OCI_INDEX),
        (IMAGE, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (INDEX, DOCKER_LIST + "; charset=utf-8", DOCKER_LIST),
        (IMAGE, "text/plain", OCI_MANIFEST),
        ({**IMAGE, "mediaType": DOCKER_MANIFEST}, None, DOCKER_MANIFEST),
    ],
)
def test_the_media_type_is_the_one_that_is_said(document: Any, content_type: str | None, media_type: str) -> None:
    manifest = parse_manifest(data(document), content_type)
    assert manifest.media_type == media_type
    assert manifest.is_index == ("manifests" in document)
    assert manifest.data == data(document)
    assert manifest.digest == Digest.of(data(document))


def test_what_a_manifest_names_is_listed_with_its_role() -> None:
    assert [each.role for each in parse_manifest(data(IMAGE)).names] == [Role.CONFIG, Role.LAYER, Role.LAYER]
    assert [each.role for each in parse_manifest(data(INDEX)).names] == [Role.MANIFEST]
    assert parse_manifest(data({**IMAGE, "subject": NAMED})).subject == Digest.of(b"x")


def test_what_an_index_names_and_is_no_manifest_is_a_blob() -> None:
    untyped = {"digest": NAMED["digest"], "size": 1}
    child = {**NAMED, "mediaType": OCI_MANIFEST}
    manifest = parse_manifest(data({**INDEX, "manifests": [NAMED, child, untyped]}))
    assert [each.role for each in manifest.names] == [Role.LAYER, Role.MANIFEST, Role.MANIFEST]


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({**IMAGE, "manifests": [NAMED]}, None),
        ({"schemaVersion": 2}, None),
        ({**IMAGE, "schemaVersion": 1}, None),
        ({**IMAGE, "mediaType": OCI_INDEX}, None),
        ({**IMAGE, "mediaType": "application/other"}, None),
        ({**IMAGE, "mediaType": OCI_MANIFEST}, DOCKER_MANIFEST),
        (INDEX, OCI_MANIFEST),
        ({**IMAGE, "layers": [{**NAMED, "size": -1}]}, None),
        ({**IMAGE, "layers": [{**NAMED, "digest": "sha256:x"}]}, None),
        ({**IMAGE, "layers": "many"}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_can_be_read_two_ways_or_not_at_all_is_refused(document: Any, content_type: str | None) -> None:
    with pytest.raises(InvalidError):
        parse_manifest(data(document), content_type)


@given(st.binary(max_size=100))
def test_no_bytes_do_worse_than_being_refused(junk: bytes) -> None:
    with pytest.raises(InvalidError):
        parse_manifest(junk)


def test_a_manifest_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidError, match="at most 4194304"):
        parse_manifest(b" " * (4 * 1024 * 1024 + 1))


def test_layers_of_other_sites_are_not_distributable() -> None:
    foreign = {**NAMED, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    manifest = parse_manifest(data({**IMAGE, "layers": [NAMED, foreign]}))
    assert [each.distributable for each in manifest.names] == [True, True, False]


@pytest.mark.parametrize("size", [-1, (1 << 40) + 1, 1 << 63, 1 << 80])
def test_a_size_that_no_blob_has_is_refused(size: int) -> None:
    with pytest.raises(InvalidError):
        parse_manifest(data({**IMAGE, "layers": [{**NAMED, "size": size}]}))


def test_json_nested_deeper_than_can_be_read_is_refused() -> None:
    with pytest.raises(InvalidError):
        parse_manifest(b'{"schemaVersion": 2, "config": ' + b'{"annotations":' * 100_000)


def test_a_manifest_that_names_too_much_is_refused() -> None:
    with pytest.raises(InvalidError, match="names 5001 blobs"):
        parse_manifest(data({**IMAGE, "layers": [NAMED] * 5000}))
