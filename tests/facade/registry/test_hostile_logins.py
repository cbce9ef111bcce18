"""Access `passthrough` against clients that lie, and upstreams that answer something else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facade.registry.client_logins import TOKEN_PATH, ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, UpstreamConfig
from node.visibility import Audience, Visibility
from tests.facade.logins import basic, get, pull, token
from tests.facade.machine import Machine, machine
from tests.facade.pusher import Pusher
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Bearer

NAME = "corp.test/team/secret"
OPEN = "corp.test/team/open"


ALICE, BOB, STRANGER = basic("alice"), basic("bob"), basic("mallory")


@pytest.fixture
async def corporate() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(auth=Bearer({"alice": "secret", "bob": "secret"}, frozenset({"team/secret"}))) as fake:
        yield fake


@pytest.fixture
def secret(corporate: FakeRegistry) -> FakeImage:
    return corporate.push("team/secret", make_image("secret", (2_000_000,)), "v1")


@pytest.fixture
async def node(tmp_path: Path, registry: FakeRegistry, corporate: FakeRegistry) -> AsyncIterator[Machine]:
    upstreams = (UpstreamConfig.parse("corp.test", corporate.url, public=True, access=Access.PASSTHROUGH),)
    async with machine(tmp_path / "a", registry, upstreams=upstreams, gate=Gate(clients=ClientLogins())) as one:
        yield one


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password", "username": "", "password": ""},
        {"grant_type": "password"},
        {"grant_type": "refresh_token", "refresh_token": ""},
    ],
)
async def test_an_empty_login_is_none_and_takes_nobodys_token(
    node: Machine, corporate: FakeRegistry, secret: FakeImage, form: dict[str, str]
) -> None:
    """The token of those without a login is the same for all: nobody may make it stand for a login that is refused."""
    image = corporate.push("team/open", make_image("open"), "v1")
    await pull(node, NAME, secret, ALICE)  # upstream is known to judge logins by now
    anybody = await token(node)
    async with node.session.post(f"{node.facade}{TOKEN_PATH}", data=form) as answer:
        assert answer.status == 200
    assert (await get(node, f"/v2/{OPEN}/manifests/v1", anybody)).data == image.manifest.data


@pytest.mark.parametrize("field", ["username", "password", "refresh_token"])
async def test_a_login_that_no_registry_would_take_is_not_kept(node: Machine, field: str) -> None:
    grant = "refresh_token" if field == "refresh_token" else "password"
    form = {"grant_type": grant, "username": "u", "password": "p", field: "x" * 20_000}
    async with node.session.post(f"{node.facade}{TOKEN_PATH}", data=form) as answer:
        assert answer.status in (400, 413)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"grant_type=password&username=" + b"x" * (2 << 20), 413),
        ("application/x-www-form-urlencoded", b"grant_type=\xff", 400),
        ("multipart/form-data", b"--", 400),
    ],
)
async def test_a_form_that_is_none_is_the_clients_fault(
    node: Machine, content_type: str, body: bytes, status: int
) -> None:
    answer = await node.ask(f"{node.facade}{TOKEN_PATH}", "POST", {"Content-Type": content_type}, body)
    assert answer.status == status


async def test_a_long_login_is_one(node: Machine, corporate: FakeRegistry, secret: FakeImage) -> None:
    """A key of a Google service account, which is a password there, is 4300 bytes in the header."""
    key = "k" * 3300
    corporate.auth = Bearer({"_json_key_base64": key}, frozenset({"team/secret"}))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", basic("_json_key_base64", key))).status == 200


async def test_a_token_that_is_not_known_is_said_to_be_so(node: Machine) -> None:
    """Else containerd shows the same one again (RFC 6750, section 3.1)."""
    answer = await get(node, f"/v2/{NAME}/manifests/v1", "Bearer of another process")
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_a_challenge_holds_no_more_than_a_repositorys_name(node: Machine) -> None:
    answer = await node.get("/v2/a%22,realm=%22http:%2f%2fevil.test/manifests/v1", Authorization="Bearer nobody")
    assert answer.status == 401 and "evil" not in answer.headers["WWW-Authenticate"]


async def test_a_page_that_anybody_may_read_proves_no_manifest_public(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    corporate.files["/login"] = b"<html>who are you?</html>"
    digest = secret.manifest.digest
    corporate.fault("manifests", "v1", Fault(no_digest=True, method="HEAD"))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    corporate.fault("manifests", digest, Fault(location=f"{corporate.url}/login", redirect_status=302, method="HEAD"))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    holding = await node.store.find(digest)
    assert holding is not None and holding.visibility is Visibility.PRIVATE
    assert not (await node.store.changes(0, Audience.PUBLIC)).entries


async def test_a_proof_that_is_asked_for_is_none_yet(node: Machine, corporate: FakeRegistry, secret: FakeImage) -> None:
    """An image is also an own one, and so members may have it; two clients pull it from upstream meanwhile."""
    corporate.push("team/secret", secret, "v2")
    await Pusher(node, "mine").image(secret, "v1")
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    corporate.fault("manifests", secret.manifest.digest, Fault(silent=True, times=1, method="GET"))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200
    await corporate.until(lambda: bool(corporate.asked("manifests", "GET", secret.manifest.digest)))
    assert (await get(node, f"/v2/{NAME}/manifests/v2", BOB)).status == 200
    holding = await node.store.find(secret.manifest.digest)
    assert holding is not None and holding.visibility is Visibility.MEMBERS


@pytest.mark.parametrize("status", [401, 403, 404, 405])
@pytest.mark.parametrize("warm", [False, True])
async def test_a_registry_that_refuses_head_serves_who_may_read(
    node: Machine, corporate: FakeRegistry, secret: FakeImage, status: int, warm: bool
) -> None:
    """Docker and Podman then pull directly with GET, and so nothing may be refused that they would get."""
    if warm:
        await pull(node, NAME, secret, BOB)
    corporate.fault("manifests", "*", Fault(status=status, method="HEAD"))
    corporate.fault("blobs", "*", Fault(status=status, method="HEAD"))
    await pull(node, NAME, secret, ALICE)
    for path in ("manifests/v1", f"manifests/{secret.manifest.digest}", f"blobs/{secret.layers[0].digest}"):
        assert (await get(node, f"/v2/{NAME}/{path}", STRANGER)).status == 404
    layer = secret.layers[0]
    assert (await get(node, f"/v2/{NAME}/blobs/{layer.digest}", BOB)).data == layer.data


async def _login_page(corporate: FakeRegistry, secret: FakeImage) -> None:
    """Who is not known is led to a page that is 200 for everybody, as single sign-on does."""
    corporate.files["/login"] = b"<html>who are you?</html>"
    page = Fault(location=f"{corporate.url}/login", redirect_status=302)
    for blob in (secret.manifest, *secret.blobs):
        corporate.fault("manifests" if blob is secret.manifest else "blobs", blob.digest, page)
    corporate.fault("manifests", "v1", page)


@pytest.mark.parametrize("login", [None, STRANGER])
async def test_an_answer_that_is_not_the_blob_grants_nothing(
    node: Machine, corporate: FakeRegistry, secret: FakeImage, login: str | None
) -> None:
    await pull(node, NAME, secret, ALICE)
    await _login_page(corporate, secret)
    for method in ("HEAD", "GET"):
        for path in (f"blobs/{secret.layers[0].digest}", f"manifests/{secret.manifest.digest}", "manifests/v1"):
            assert (await get(node, f"/v2/{NAME}/{path}", login, method)).status in (401, 404, 503)


async def test_a_blob_that_anybody_may_read_opens_no_manifest(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    """Some registries guard manifests alone."""
    await pull(node, NAME, secret, ALICE)
    layer = secret.layers[0]
    corporate.files["/storage"] = layer.data
    corporate.fault("blobs", layer.digest, Fault(location=f"{corporate.url}/storage"))
    assert (await get(node, f"/v2/{NAME}/blobs/{layer.digest}")).data == layer.data
    for selector in ("v1", secret.manifest.digest):
        assert (await get(node, f"/v2/{NAME}/manifests/{selector}")).status == 401


async def test_with_a_silent_upstream_nobody_is_told_what_is_here(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    other = make_image("another", (1000,))
    assert (await get(node, f"/v2/{NAME}/manifests/v1", ALICE)).status == 200  # and none of its blobs
    await corporate.stop()
    for known, unknown in (("v1", "v2"), (secret.manifest.digest, other.manifest.digest)):
        for login in (None, STRANGER):
            told = [await get(node, f"/v2/{NAME}/manifests/{each}", login) for each in (known, unknown)]
            assert told[0].status == told[1].status == 503
            assert told[0].data == told[1].data


async def test_patience_that_upstream_asks_for_is_passed_on(
    node: Machine, corporate: FakeRegistry, secret: FakeImage
) -> None:
    await pull(node, NAME, secret, ALICE)
    corporate.fault("manifests", "*", Fault(status=429, retry_after="77"))
    answer = await get(node, f"/v2/{NAME}/manifests/{secret.manifest.digest}", BOB)
    assert answer.status == 429 and int(answer.headers["Retry-After"]) in (76, 77)
