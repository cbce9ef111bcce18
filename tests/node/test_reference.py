"""Names of images."""

import pytest

from node.digest import Digest
from node.errors import InvalidError
from node.reference import Reference, Repository, Tag, parse_selector

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("user/app", "docker.io/user/app:latest"),
        ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
        ("localhost/a", "localhost/a:latest"),
        ("corp.test:5000/a/b", "corp.test:5000/a/b:latest"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:v1@{DIGEST}", f"quay.io/a@{DIGEST}"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, written: str) -> None:
    assert str(Reference.parse(text)) == written


@pytest.mark.parametrize("text", ["", "UPPER", "a//b", "a:b:c", "-a", "a@sha256:1", "a/../b", "a b", "host.test/"])
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        Reference.parse(text)


@pytest.mark.parametrize("name", ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "0"])
def test_names_of_the_grammar_are_accepted(name: str) -> None:
    assert Repository.parse("docker.io", name).name == name


@pytest.mark.parametrize("name", ["a..b", "a___b", "/a", "a/", "A", "a" * 250, "a\n", "ä"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="repository name"):
        Repository.parse("docker.io", name)


@pytest.mark.parametrize("namespace", ["", "a b", "-a", "http://a", "a:", "a:999999", "a/b", "..", "a\n"])
def test_a_malformed_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidError, match="namespace"):
        Repository.parse(namespace, "a")


def test_a_selector_with_a_colon_is_a_digest() -> None:
    assert parse_selector(str(DIGEST)) == DIGEST
    assert parse_selector("v1.0") == Tag("v1.0")
    for text in ("", ".a", "a" * 129, "a/b", "a\n"):
        with pytest.raises(InvalidError):
            parse_selector(text)
