"""The gate before every route: who may do what, over the wire."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest

from facade.registry.access import USERS_DO_ALL, Pattern, Rule
from facade.registry.gate import Gate
from facade.registry.htpasswd import Users, parse_htpasswd
from facade.registry.logins import Logins
from tests.facade.machine import Machine, machine
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry

PASSWORD = "wonder"
DIGEST = "sha256:" + "a" * 64
EVERYBODY = ("alice", "bob", "dave", None)
ALL_REFUSED = {"alice": 403, "bob": 403, "dave": 403, None: 401}


def users() -> Users:
    """alice, bob and dave, all with the same password."""
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return parse_htpasswd("\n".join(f"{name}:{stored}" for name in ("alice", "bob", "dave")).encode())


def rule(*repositories: str, read: tuple[str, ...] = (), write: tuple[str, ...] = ()) -> Rule:
    return Rule(tuple(Pattern.parse(one) for one in repositories), frozenset(read), frozenset(write))


def login(user: str | None, password: str = PASSWORD) -> dict[str, str]:
    """The header of a login, or none."""
    if user is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


RULES = (
    rule("team/*", read=("bob",), write=("alice",)),
    rule("docker.io/team/*", "docker.io/library/*", read=("*",)),
    rule("ghcr.io/*", read=("anonymous",)),
)


@pytest.fixture
async def mixed(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    """A node whose rules let alice write, bob read, dave read what is mirrored, and anybody read from ghcr.io."""
    gate = Gate(Logins(users()), RULES)
    async with machine(tmp_path / "mixed", registry, namespaces=("docker.io", "ghcr.io"), gate=gate) as node:
        yield node


@pytest.fixture
async def closed(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[Machine]:
    """A node with users and no rules."""
    async with machine(tmp_path / "closed", registry, gate=Gate(Logins(users()), USERS_DO_ALL)) as node:
        yield node


PULLS = (
    *((method, f"/v2/{{}}/manifests/{last}") for method in ("GET", "HEAD") for last in ("v1", DIGEST)),
    *((method, f"/v2/{{}}/blobs/{DIGEST}") for method in ("GET", "HEAD")),
    ("GET", "/v2/{}/tags/list"),
    ("GET", f"/v2/{{}}/referrers/{DIGEST}"),
)
PUSHES = (
    ("POST", "/v2/{}/blobs/uploads/"),
    ("POST", "/v2/{}/blobs/uploads"),
    ("POST", f"/v2/{{}}/blobs/uploads/?digest={DIGEST}"),
    ("POST", f"/v2/{{}}/blobs/uploads/?mount={DIGEST}"),
    *((method, "/v2/{}/blobs/uploads/17") for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE")),
    ("PUT", "/v2/{}/manifests/v1"),
    ("PUT", f"/v2/{{}}/manifests/{DIGEST}"),
    ("POST", "/v2/{}/manifests/v1"),
    ("PUT", f"/v2/{{}}/blobs/{DIGEST}"),
    ("PROPFIND", "/v2/{}/manifests/v1"),
)
DELETES = (
    ("DELETE", "/v2/{}/manifests/v1"),
    ("DELETE", f"/v2/{{}}/manifests/{DIGEST}"),
    ("DELETE", f"/v2/{{}}/blobs/{DIGEST}"),
)


async def refused(node: Machine, method: str, path: str, user: str | None) -> int | None:
    """401 or 403 where the gate answers, with the error that the specification wants; None where it lets through."""
    answer = await node.get(path, method, **login(user))
    if answer.status not in (401, 403):
        assert "WWW-Authenticate" not in answer.headers
        return None
    if method != "HEAD":
        (error,) = json.loads(answer.data)["errors"]
        assert error["code"] == {401: "UNAUTHORIZED", 403: "DENIED"}[answer.status]
    assert answer.headers.get("WWW-Authenticate") == ('Basic realm="layermesh"' if answer.status == 401 else None)
    return answer.status


@pytest.mark.parametrize(
    ("name", "pull", "write"),
    [
        ("team/app", {None: 401, "dave": 403}, {None: 401, "bob": 403, "dave": 403}),
        ("other/app", ALL_REFUSED, ALL_REFUSED),
        ("docker.io/team/app", {None: 401}, ALL_REFUSED),
        (
            "docker.io/else/app",
            ALL_REFUSED,
            ALL_REFUSED,
        ),
        ("ghcr.io/team/app", {}, ALL_REFUSED),
    ],
)
async def test_every_route_asks_who_it_is_and_what_is_done_to_which_repository(
    mixed: Machine, name: str, pull: dict[str | None, int], write: dict[str | None, int]
) -> None:
    """`pull` and `write`: who is refused, and how; whoever is not named is let through."""
    for routes, expected in ((PULLS, pull), (PUSHES, write), (DELETES, write)):
        for method, path in routes:
            found = {user: await refused(mixed, method, path.format(name), user) for user in EVERYBODY}
            assert found == {user: expected.get(user) for user in EVERYBODY}, (method, path)


@pytest.mark.parametrize("path", [path for _, path in (*PULLS, *DELETES)] + ["/v2", "/v2/", "/v2/_catalog"])
async def test_without_rules_strangers_get_nothing_at_all(closed: Machine, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert await refused(closed, method, path.format("docker.io/team/app"), None) == 401
        assert await refused(closed, method, path.format("docker.io/team/app"), "dave") is None


@pytest.mark.parametrize("path", ["/v2/x", "/v2/team/app/other/x", "/v2/a%2fb/manifests/v1", "/v2/UP/manifests/v1"])
async def test_without_rules_strangers_do_not_even_learn_what_is_no_route(closed: Machine, path: str) -> None:
    assert await refused(closed, "GET", path, None) == 401
    assert (await closed.get(path, **login("dave"))).status in (400, 404)


async def test_ns_names_the_repository_as_it_does_for_a_pull(mixed: Machine) -> None:
    assert await refused(mixed, "GET", "/v2/team/app/manifests/v1?ns=ghcr.io", None) is None
    assert await refused(mixed, "GET", "/v2/team/app/manifests/v1?ns=docker.io", None) == 401
    assert await refused(mixed, "GET", "/v2/team/app/manifests/v1?ns=docker.io", "dave") is None
    assert await refused(mixed, "GET", "/v2/team/app/manifests/v1?ns=ghcr.io&ns=docker.io", "dave") is None  # 400


@pytest.mark.parametrize(
    ("source", "user", "status"),
    [
        ("team/base", "alice", None),
        ("team/base", "bob", 403),
        ("other/base", "alice", 403),
        ("docker.io/library/alpine", "alice", None),
        ("docker.io/else/app", "alice", 403),
        ("team/base&from=other/base", "alice", 403),
    ],
)
async def test_a_mount_needs_the_right_to_read_where_the_blob_comes_from(
    mixed: Machine, source: str, user: str, status: int | None
) -> None:
    path = f"/v2/team/app/blobs/uploads/?mount={DIGEST}&from={source}"
    assert await refused(mixed, "POST", path, user) == status


async def test_v2_asks_for_a_login_and_takes_an_empty_one_where_anybody_may_read_something(
    mixed: Machine, closed: Machine
) -> None:
    """Docker, Podman and skopeo send a login only where `/v2/` asks for one; the latter two an empty one at least."""
    empty = {"Authorization": "Basic Og=="}
    for node in (mixed, closed):
        assert await refused(node, "GET", "/v2/", None) == 401
        assert await refused(node, "GET", "/v2/", "bob") is None
    assert (await mixed.get("/v2/", **empty)).status == 200
    assert (await closed.get("/v2/", **empty)).status == 401
    assert (await mixed.get("/v2/ghcr.io/team/app/manifests/v1", **empty)).status == 404
    assert (await mixed.get("/v2/team/app/manifests/v1", **empty)).status == 401


async def test_v2_of_the_docker_mirror_asks_only_where_nobody_may_read_without_a_login(
    mixed: Machine, closed: Machine
) -> None:
    assert [(await mixed.ask(f"{node.docker}/v2/")).status for node in (mixed, closed)] == [200, 401]


@pytest.mark.parametrize("user", ["alice", "nobody"])
async def test_a_wrong_login_is_told_everywhere(mixed: Machine, user: str) -> None:
    for path in ("/v2/", "/v2/ghcr.io/team/app/manifests/v1"):
        answer = await mixed.get(path, **login(user, "wrong"))
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="layermesh"')


async def test_the_catalog_is_for_those_who_may_read_everything(mixed: Machine, closed: Machine) -> None:
    assert [await refused(mixed, "GET", "/v2/_catalog", user) for user in ("alice", None)] == [403, 401]
    assert await refused(closed, "GET", "/v2/_catalog", "bob") is None


async def test_the_docker_mirror_follows_the_same_rules(mixed: Machine) -> None:
    path = f"{mixed.docker}/v2/team/app/manifests/v1"
    answers = [await mixed.ask(path, headers=login(user)) for user in (None, "dave")]
    assert [answer.status for answer in answers] == [401, 404]
    assert (await mixed.ask(f"{mixed.docker}/v2/else/app/manifests/v1", headers=login("alice"))).status == 403


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.push("team/app", make_image("gate", layer_bytes=(100_000,)), "v1")


async def test_what_is_answered_from_memory_is_for_those_who_may_read_it_alone(
    closed: Machine, image: FakeImage
) -> None:
    path = f"/v2/team/app/manifests/{image.manifest.digest}?ns=docker.io"
    for blob in image.blobs:
        assert (await closed.blob(blob.digest, **login("dave"))).data == blob.data
        await closed.landed(blob.digest)
    for _ in range(3):
        assert (await closed.get(path, **login("dave"))).data == image.manifest.data
    assert (await closed.get(path)).status == 401
    assert (await closed.get(path, **login("dave", "wrong"))).status == 401


async def test_a_login_here_is_never_sent_upstream(closed: Machine, registry: FakeRegistry, image: FakeImage) -> None:
    await closed.get("/v2/team/app/manifests/v1?ns=docker.io", **login("dave"))
    await closed.blob(image.layers[0].digest, **login("dave"))
    await closed.blob(image.config.digest, **login("dave"), Range="bytes=1-2")
    assert registry.asked("manifests") and registry.asked("blobs")
    assert not [seen for seen in registry.requests if "Authorization" in seen.headers]


async def test_refused_requests_are_counted(closed: Machine) -> None:
    await closed.get("/v2/")
    body, _ = await closed.metrics.expose("")
    assert b'http_server_requests_total{code="401",listener="facade",method="GET"} 1.0' in body
