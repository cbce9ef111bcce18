"""Reading what a client asks for from its path and query."""

import pytest
from aiohttp.test_utils import make_mocked_request

from facade.registry.requests import Form, Listener, MalformedError, Route, UnknownError, parse
from node.digest import Digest
from node.reference import OWN, Repository, Tag

DIGEST = "sha256:" + "a" * 64


def test_containerd_names_the_namespace_in_the_query() -> None:
    asked = parse(make_mocked_request("GET", "/v2/team/app/manifests/v1?ns=ghcr.io"), Listener.FACADE)
    assert (asked.form, asked.route) == (Form.MIRROR, Route.MANIFEST)
    assert asked.repository == Repository("ghcr.io", "team/app") and asked.selector == Tag("v1")


def test_podman_names_the_namespace_first_in_the_path() -> None:
    asked = parse(make_mocked_request("GET", f"/v2/quay.io/team/app/blobs/{DIGEST}"), Listener.FACADE)
    assert asked.form is Form.FULL_NAME and asked.repository == Repository("quay.io", "team/app")
    assert asked.digest == Digest.parse(DIGEST)


def test_a_namespace_with_a_port_is_reached_by_ns() -> None:
    asked = parse(make_mocked_request("GET", "/v2/a/manifests/v1?ns=localhost%3A5000"), Listener.FACADE)
    assert asked.repository.namespace == "localhost:5000"


@pytest.mark.parametrize("query", ["", "?ns=docker.io"])
def test_the_docker_mirror_means_docker_hub(query: str) -> None:
    asked = parse(make_mocked_request("GET", f"/v2/library/alpine/manifests/3{query}"), Listener.DOCKER_MIRROR)
    assert asked.repository == Repository("docker.io", "library/alpine")


def test_the_docker_mirror_does_not_read_a_namespace_from_the_path() -> None:
    asked = parse(make_mocked_request("GET", "/v2/ghcr.io/app/manifests/3"), Listener.DOCKER_MIRROR)
    assert asked.repository == Repository("docker.io", "ghcr.io/app")


def test_one_word_on_docker_hub_is_in_library() -> None:
    asked = parse(make_mocked_request("GET", "/v2/docker.io/alpine/manifests/3"), Listener.FACADE)
    assert asked.repository.name == "library/alpine"


def test_a_bare_name_is_an_own_repository() -> None:
    assert parse(make_mocked_request("GET", "/v2/team/app/manifests/3"), Listener.FACADE).form is Form.OWN


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/docker.io/../../etc/manifests/x", "NAME_INVALID"),
        ("/v2/docker.io/a//b/manifests/x", "NAME_INVALID"),
        ("/v2/docker.io/Upper/manifests/x", "NAME_INVALID"),
        ("/v2/docker.io/a%2fb/manifests/x", "NAME_INVALID"),
        (f"/v2/docker.io/{'a' * 256}/manifests/x", "NAME_INVALID"),
        ("/v2/a/manifests/x?ns=bad host", "NAME_INVALID"),
        ("/v2/a/manifests/x?ns=http://evil.test", "NAME_INVALID"),
        ("/v2/a/manifests/x?ns=a.test&ns=b.test", "NAME_INVALID"),
        ("/v2/docker.io/a/manifests/-tag", "MANIFEST_INVALID"),
        (f"/v2/docker.io/a/manifests/{'t' * 129}", "MANIFEST_INVALID"),
        ("/v2/docker.io/a/manifests/sha256:short", "DIGEST_INVALID"),
        ("/v2/docker.io/a/blobs/latest", "DIGEST_INVALID"),
        (f"/v2/docker.io/a/blobs/md5:{'a' * 32}", "DIGEST_INVALID"),
        (f"/v2/docker.io/a/blobs/sha256:{'A' * 64}", "DIGEST_INVALID"),
    ],
)
def test_what_is_malformed_is_named_by_the_specifications_code(path: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(make_mocked_request("GET", path), Listener.FACADE)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["/v2/_catalog", "/v2/docker.io/a/tags/all", "/v2/x", "/v2/a/b/uploads/1"])
def test_other_paths_are_unknown(path: str) -> None:
    with pytest.raises(UnknownError):
        parse(make_mocked_request("GET", path), Listener.FACADE)


def test_the_docker_mirror_refuses_other_namespaces() -> None:
    with pytest.raises(UnknownError):
        parse(make_mocked_request("GET", "/v2/a/manifests/x?ns=ghcr.io"), Listener.DOCKER_MIRROR)


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/v2/a/b/tags/list", Route.TAGS, "a/b"),
        (f"/v2/a/referrers/sha256:{'0' * 64}", Route.REFERRERS, "a"),
        ("/v2/a/blobs/uploads/", Route.UPLOAD, "a"),
        ("/v2/a/blobs/uploads", Route.UPLOAD, "a"),
        ("/v2/a/b/blobs/uploads/0123", Route.UPLOAD, "a/b"),
        ("/v2/blobs/blobs/uploads/0123", Route.UPLOAD, "blobs"),
    ],
)
def test_what_is_no_manifest_or_blob_is_told_apart(path: str, kind: Route, name: str) -> None:
    asked = parse(make_mocked_request("GET", path), Listener.FACADE)
    assert (asked.form, asked.route, asked.repository) == (Form.OWN, kind, Repository(OWN, name))
    assert asked.upload == ("0123" if path.endswith("0123") else "")
