"""Every path and method of the registry API, and what it does."""

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from facade.registry.access import Action
from facade.registry.requests import Listener, MalformedError, UnknownError, parse, repository_of
from facade.registry.routes import Route, action_of, route_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "route", "name"),
    [
        ("/v2", Route.BASE, ""),
        ("/v2/", Route.BASE, ""),
        ("/v2/_catalog", Route.CATALOG, ""),
        ("/v2/team/app/manifests/v1", Route.MANIFEST, "team/app"),
        (f"/v2/app/manifests/{DIGEST}", Route.MANIFEST, "app"),
        (f"/v2/app/blobs/{DIGEST}", Route.BLOB, "app"),
        ("/v2/app/blobs/uploads", Route.UPLOAD, "app"),
        ("/v2/app/blobs/uploads/", Route.UPLOAD, "app"),
        ("/v2/a/b/c/blobs/uploads/17-x", Route.UPLOAD, "a/b/c"),
        ("/v2/app/tags/list", Route.TAGS, "app"),
        (f"/v2/app/referrers/{DIGEST}", Route.REFERRERS, "app"),
        ("/v2/a/blobs/uploads/manifests/v1", Route.MANIFEST, "a/blobs/uploads"),
        ("/v2/a/manifests/b/tags/list", Route.TAGS, "a/manifests/b"),
        ("/v2/a/blobs/blobs/uploads/x", Route.UPLOAD, "a/blobs"),
        ("/v2/a/manifests/", Route.MANIFEST, "a"),
    ],
)
def test_a_path_is_read_from_behind(path: str, route: Route, name: str) -> None:
    assert route_of(path) == (route, name)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/app",
        "/v2/app/",
        "/v2/app/tags/other",
        "/v2/app/uploads/x",
        "/v2/blobs/uploads/x",
        "/v2/manifests/v1",
        "/v2//manifests/v1",
        "/v2/app/blob/x",
        "/v2/_catalog/",
        "/v2/_other",
    ],
)
def test_what_is_no_route_is_known_to_be_none(path: str) -> None:
    with pytest.raises(UnknownError):
        route_of(path)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("route", Route)
def test_reading_is_a_pull_but_for_the_state_of_an_upload(method: str, route: Route) -> None:
    assert action_of(method, route) is (Action.PUSH if route is Route.UPLOAD else Action.PULL)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("route", Route)
def test_every_other_method_is_a_push(method: str, route: Route) -> None:
    assert action_of(method, route) is Action.PUSH


@pytest.mark.parametrize("route", Route)
def test_deleting_is_deleting_but_for_an_upload_that_is_given_up(route: Route) -> None:
    assert action_of("DELETE", route) is (Action.PUSH if route is Route.UPLOAD else Action.DELETE)


@given(
    st.lists(st.sampled_from(["", "a", "v1", "docker.io", DIGEST, "list", "_catalog", *Route]), max_size=7),
    st.sampled_from(["", "?ns=ghcr.io", "?ns="]),
    st.sampled_from(Listener),
)
def test_what_is_served_is_what_was_judged(parts: list[str], query: str, listener: Listener) -> None:
    """The gate reads a path by itself: whatever a handler makes of it must be the same repository."""
    request = make_mocked_request("GET", f"/v2/{'/'.join(parts)}{query}")
    try:
        asked = parse(request, listener)
    except (MalformedError, UnknownError):
        return
    route, name = route_of(request.path)
    assert repository_of(name, request.query, listener) == asked.repository
    assert route == asked.route
