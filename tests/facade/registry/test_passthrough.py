"""Access `passthrough`: upstream judges each client by the login that the client itself shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from yarl import URL

from facade.cli.tls import server_context
from facade.registry.client_logins import TOKEN_PATH, ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from facade.upstream.tags import TagPolicy
from node.visibility import Audience, Visibility
from tests.facade.logins import basic, get, pull, token
from tests.facade.machine import Machine, machine
from tests.fakes.certificates import write_certificate
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Bearer

NAME = "corp.test/team/secret"


ALICE, STRANGER = basic("alice"), basic("mallory")


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    """A registry that shows one repository to alice and bob alone, and others to everybody."""
    auth = Bearer({"alice": "secret", "bob": "secret", "node": "secret"}, frozenset({"team/secret"}))
    async with FakeRegistry(auth=auth) as fake:
        yield fake


@pytest.fixture
def secret(corporate: FakeRegistry) -> FakeImage:
    return corporate.push("team/secret", make_image("secret", (2_000_000,)), "v1")


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry) -> AsyncIterator[Machine]:
    """A node that has a login of its own for the registry, which it must not use."""
    upstreams = (UpstreamConfig.parse("corp.test", corporate.url, public=True, access=Access.PASSTHROUGH),)
    known = Credentials({(corporate.address, ""): Login("node", "secret")})
    gate = Gate(clients=ClientLogins())
    async with machine(tmp_path / "a", registry, upstreams=upstreams, credentials=known, gate=gate) as one:
        yield one


async def refusals(node: Machine, image: FakeImage, login: str | None) -> set[int]:
    """How every way to read the image is answered; no body holds any of it."""
    selectors = [f"manifests/{each}" for each in ("v1", image.manifest.digest)]
    selectors += [f"blobs/{blob.digest}" for blob in image.blobs]
    statuses = set()
    for selector in selectors:
        for path in (f"/v2/{NAME}/{selector}", f"/v2/team/secret/{selector}?ns=corp.test"):
            for method in ("GET", "HEAD"):
                answer = await get(node, path, login, method)
                assert len(answer.data) < 500
                statuses.add(answer.status)
    return statuses


@pytest.mark.parametrize("kind", ["basic", "bearer"])
async def test_who_has_a_login_upstream_pulls_with_it_and_nobody_elses_is_used(
    node: Machine, corporate: FakeRegistry, secret: FakeImage, kind: str
) -> None:
    login = ALICE if kind == "basic" else await token(node, ALICE)
    await pull(node, NAME, secret, login)
    used = {seen.headers.get("Authorization", "") for seen in corporate.asked("manifests")}
    assert not any("token-node" in each for each in used) and any("token-alice" in each for each in used)


async def test_nobody_else_gets_it_once_it_is_here(node: Machine, secret: FakeImage) -> None:
    await pull(node, NAME, secret, ALICE)
    assert await refusals(node, secret, None) == {401}
    assert await refusals(node, secret, STRANGER) == {404}
    assert await refusals(node, secret, await token(node)) == {404}
    await pull(node, NAME, secret, basic("bob"))


async def test_nobody_else_hears_of_it(node: Machine, secret: FakeImage) -> None:
    await pull(node, NAME, secret, ALICE)
    for digest in (secret.manifest.digest, *(blob.digest for blob in secret.blobs)):
        holding = await node.store.find(digest)
        assert holding is not None and holding.visibility is Visibility.PRIVATE
        assert (await node.ask(f"{node.mesh}/ipfs/{holding.cid}")).status == 404
    for audience in Audience:
        assert not (await node.store.changes(0, audience)).entries


async def test_a_login_counts_for_its_own_request_alone_also_on_one_connection(
    node: Machine, secret: FakeImage
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(node.facade).port)
    statuses = []
    for header in (f"Authorization: {ALICE}\r\n", ""):
        path = f"/v2/{NAME}/manifests/{secret.manifest.digest}"
        writer.write(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        statuses.append(answer.split()[1])
    writer.close()
    await writer.wait_closed()
    assert statuses == [b"200", b"401"]


async def test_two_clients_that_ask_at_once_are_judged_apart(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    path = f"/v2/{NAME}/manifests/v1"
    asked = [get(node, path, login) for login in (ALICE, STRANGER, None) * 3]
    assert [answer.status for answer in await asyncio.gather(*asked)] == [200, 404, 401] * 3


async def test_a_blob_on_its_way_to_one_client_is_not_given_to_another(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    layer = secret.layers[0]
    corporate.fault("blobs", layer.digest, Fault(stall_after=1_900_000, times=1))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    async with asyncio.TaskGroup() as group:
        pulling = group.create_task(get(node, f"/v2/{NAME}/blobs/{layer.digest}", ALICE))
        await corporate.until(lambda: bool(corporate.asked("blobs", "GET", layer.digest)))
        assert (await get(node, f"/v2/{NAME}/blobs/{layer.digest}")).status == 401
        assert (await get(node, f"/v2/{NAME}/blobs/{layer.digest}", STRANGER)).status == 404
    assert pulling.result().data == layer.data


async def test_a_flight_that_was_refused_to_one_client_is_not_refused_to_another(
    node: Machine, corporate: FakeRegistry
) -> None:
    """What anybody could read a moment ago is asked for without a login, and is private by now."""
    image = corporate.push("team/open", make_image("open", (2_000_000,)), "v1")
    layer, path = image.layers[0], f"/v2/corp.test/team/open/blobs/{image.layers[0].digest}"
    assert (await get(node, "/v2/corp.test/team/open/manifests/v1")).status == 200
    corporate.auth = Bearer({"alice": "secret"}, frozenset({"team/open"}))
    corporate.fault("blobs", layer.digest, Fault(silent=True, times=1))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(get(node, path))
        await corporate.until(lambda: bool(corporate.asked("blobs", "GET", layer.digest)))
        second = group.create_task(get(node, path, ALICE))
        await asyncio.sleep(0)
    assert first.result().status == 401
    assert second.result().data == layer.data


async def test_an_upstream_that_is_silent_opens_nothing_to_new_clients(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    await pull(node, NAME, secret, ALICE)
    await corporate.stop()
    await pull(node, NAME, secret, ALICE)  # granted a moment ago
    assert await refusals(node, secret, basic("bob")) == {404, 503}
    assert await refusals(node, secret, None) == {404, 503}


async def test_what_anybody_may_read_needs_no_login_and_is_shared(node: Machine, corporate: FakeRegistry) -> None:
    image = corporate.push("team/open", make_image("open", (2_000_000,)), "v1")
    assert (await get(node, "/v2/corp.test/team/open/manifests/v1")).data == image.manifest.data
    for blob in image.blobs:
        assert (await get(node, f"/v2/corp.test/team/open/blobs/{blob.digest}")).data == blob.data
        await node.landed(blob.digest)
        holding = await node.store.find(blob.digest)
        assert holding is not None and holding.visibility is Visibility.PUBLIC
    await corporate.stop()
    for selector in ("v1", image.manifest.digest):
        assert (await get(node, f"/v2/corp.test/team/open/manifests/{selector}", STRANGER)).status == 200
    assert (await get(node, f"/v2/corp.test/team/open/blobs/{image.layers[0].digest}")).status == 200


async def test_a_login_proves_nothing_public(node: Machine, corporate: FakeRegistry, secret: FakeImage) -> None:
    image = corporate.push("team/open", make_image("open", (2_000_000,)), "v1")
    assert (await get(node, "/v2/corp.test/team/open/manifests/v1", ALICE)).status == 200
    holding = await node.store.find(image.manifest.digest)
    assert holding is not None and holding.visibility is Visibility.PUBLIC  # proved beside, without a login
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    holding = await node.store.find(secret.manifest.digest)
    assert holding is not None and holding.visibility is Visibility.PRIVATE


@pytest.mark.parametrize("rule", ["pinned", "ttl=1h"])
async def test_a_tag_that_counts_for_what_it_meant_is_asked_for_by_that(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage, rule: str
) -> None:
    config = UpstreamConfig.parse("corp.test", corporate.url, access=Access.PASSTHROUGH)
    config = replace(config, tags=(("*", TagPolicy.parse(rule)),))
    async with machine(tmp_path / "b", registry, upstreams=(config,), gate=Gate(clients=ClientLogins())) as node:
        await pull(node, NAME, secret, ALICE)
        corporate.delete("team/secret", "v1")
        await pull(node, NAME, secret, basic("bob"))
        assert (await get(node, f"/v2/{NAME}/manifests/v1", STRANGER)).status == 404


async def test_lists_are_what_upstream_tells_the_client(node: Machine, secret: FakeImage) -> None:
    assert (await get(node, f"/v2/{NAME}/tags/list", ALICE)).status == 200
    assert (await get(node, f"/v2/{NAME}/tags/list", STRANGER)).status == 404
    assert (await get(node, f"/v2/{NAME}/tags/list")).status == 401


async def test_who_asks_at_the_base_is_sent_to_a_token_service_that_serves_everybody(node: Machine) -> None:
    answer = await get(node, "/v2/")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == f'Bearer realm="{node.facade}{TOKEN_PATH}",service="layermesh"'
    for login in (None, "Basic Og==", ALICE):
        assert (await get(node, "/v2/", await token(node, login))).status == 200
    assert (await get(node, "/v2/", "Bearer of another process")).status == 401


async def test_a_challenge_names_the_repository(node: Machine, secret: FakeImage) -> None:
    answer = await get(node, f"/v2/{NAME}/manifests/v1")
    assert answer.headers["WWW-Authenticate"].endswith(f',scope="repository:{NAME}:pull"')


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "password", "username": "alice", "password": "secret"}, 200),
        ({"grant_type": "password", "username": "alice", "password": "wrong"}, 404),
        ({"grant_type": "refresh_token", "refresh_token": "none"}, 404),
    ],
)
async def test_a_token_is_had_by_a_form_as_well(
    node: Machine, secret: FakeImage, form: dict[str, str], status: int
) -> None:
    async with node.session.post(f"{node.facade}{TOKEN_PATH}", data=form) as answer:
        login = f"Bearer {(await answer.json())['access_token']}"
    assert (await get(node, f"/v2/{NAME}/manifests/v1", login)).status == status


async def test_a_token_is_renewed_soon_and_counts_for_as_long_as_a_pull_may_take(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    now = [0.0]
    upstreams = (UpstreamConfig.parse("corp.test", corporate.url, access=Access.PASSTHROUGH),)
    gate = Gate(clients=ClientLogins(lambda: now[0]))
    async with machine(tmp_path / "a", registry, upstreams=upstreams, gate=gate) as node:
        given = json.loads((await get(node, TOKEN_PATH, ALICE)).data)
        assert given["expires_in"] <= 300
        path, login = f"/v2/{NAME}/manifests/v1", f"Bearer {given['token']}"
        now[0] = 3600.0
        assert (await get(node, path, login)).data == secret.manifest.data
        now[0] = 24 * 3600.0
        answer = await get(node, path, login)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].endswith(',error="invalid_token"')


async def test_own_repositories_and_the_docker_mirror_are_as_without(node: Machine, secret: FakeImage) -> None:
    assert (await get(node, "/v2/team/secret/manifests/v1", ALICE)).status == 404
    assert (await node.ask(f"{node.docker}/v2/")).status == 200


@pytest.mark.parametrize("form", ["/v2/corp.test/team/open/{}", "/v2/team/open/{}?ns=corp.test"])
async def test_a_login_that_is_for_another_registry_keeps_nobody_from_what_anybody_may_read(
    node: Machine, corporate: FakeRegistry, form: str
) -> None:
    image = corporate.push("team/open", make_image("open", (2_000_000,)), "v1")
    assert (await get(node, form.format("manifests/v1"), STRANGER)).data == image.manifest.data
    for blob in image.blobs:
        assert (await get(node, form.format(f"blobs/{blob.digest}"), STRANGER)).data == blob.data
    assert (await get(node, form.format("tags/list"), STRANGER)).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:5050", "[::1]:5050", "localhost:5050", "node.example"])
async def test_a_token_is_to_be_had_where_the_client_has_come_to(node: Machine, host: str) -> None:
    answer = await node.get("/v2/", Host=host)
    assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="http://{host}{TOKEN_PATH}"')


async def test_behind_a_proxy_that_ends_tls_a_token_is_to_be_had_under_tls(node: Machine) -> None:
    headers = {"Host": "node.example", "X-Forwarded-Proto": "https"}
    answer = await node.get("/v2/", **headers)
    assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="https://node.example{TOKEN_PATH}"')


async def test_under_tls_a_token_is_to_be_had_there_as_well(
    tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry, secret: FakeImage
) -> None:
    upstreams = (UpstreamConfig.parse("corp.test", corporate.url, access=Access.PASSTHROUGH),)
    gate = Gate(clients=ClientLogins())
    tls = await asyncio.to_thread(lambda: server_context(write_certificate(tmp_path)))
    async with machine(tmp_path / "a", registry, upstreams=upstreams, gate=gate, tls=tls) as node:
        asked = (await get(node, "/v2/")).headers["WWW-Authenticate"]
        assert asked.startswith(f'Bearer realm="{node.facade}{TOKEN_PATH}"') and node.facade.startswith("https://")
        await pull(node, NAME, secret, await token(node, ALICE))
