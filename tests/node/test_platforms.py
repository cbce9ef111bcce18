"""Platforms: the one manifest of an index."""

import json

import pytest

from node.digest import Digest
from node.errors import InvalidError, NotFoundError
from node.manifest import OCI_MANIFEST
from node.platforms import Platform, choose

AMD64, ARM_V7, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm", "v7"), Platform("linux", "arm64", "v8")


def index(*platforms: Platform | None) -> bytes:
    children = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(Digest.of(str(each).encode())),
            "size": 1,
            **(
                {"platform": {"os": each.os, "architecture": each.architecture, "variant": each.variant}}
                if each
                else {}
            ),
        }
        for each in platforms
    ]
    return json.dumps({"schemaVersion": 2, "manifests": children}).encode()


@pytest.mark.parametrize("platform", [AMD64, ARM_V7, ARM64])
def test_a_platform_is_read_as_it_is_written(platform: Platform) -> None:
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="OS/ARCH"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "expected"), [("linux/amd64", AMD64), ("linux/arm64", ARM64), ("linux/arm/v7", ARM_V7)]
)
def test_the_manifest_of_a_platform_is_found(wanted: str, expected: Platform) -> None:
    found = choose(index(None, ARM_V7, AMD64, ARM64), Platform.parse(wanted))
    assert found == (Digest.of(str(expected).encode()), OCI_MANIFEST)


def test_those_that_there_are_are_named_where_one_is_missing() -> None:
    with pytest.raises(NotFoundError, match=r"there are linux/amd64, linux/arm/v7$"):
        choose(index(ARM_V7, AMD64, Platform("unknown", "unknown")), Platform("linux", "arm", "v6"))


def test_what_is_no_index_is_refused() -> None:
    with pytest.raises(InvalidError, match="index"):
        choose(b"{}", AMD64)
