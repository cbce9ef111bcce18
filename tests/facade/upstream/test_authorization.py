"""Tokens and logins: how few requests they take, and where they never go."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials, Login
from node.errors import DeniedError, LayermeshError, NotFoundError, ThrottledError, UnreachableError
from node.reference import Repository, Tag
from node.source import Wanted
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import FakeImage, make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Auth, Basic, Bearer
from tests.fakes.sinks import MemorySink

TAG = Tag("latest")
USERS = {"me": "secret"}


@asynccontextmanager
async def opened(
    auth: Auth | None, login: Login | None = None, clock: list[float] | None = None
) -> AsyncIterator[tuple[FakeRegistry, Upstreams, FakeImage]]:
    now = clock or [0.0]
    async with FakeRegistry(auth=auth) as registry:
        image = registry.push("team/app", make_image("seed", (100, 200)), "latest")
        credentials = Credentials({(registry.address, ""): login}) if login else NO_CREDENTIALS
        config = UpstreamConfig.parse(NAMESPACE, registry.url, public=True)
        async with Upstreams([config], credentials=credentials, limits=LIMITS, clock=lambda: now[0]) as upstreams:
            yield registry, upstreams, image


@pytest.mark.parametrize("field_name", ["token", "access_token"])
async def test_an_anonymous_token_is_fetched_once_and_reused(field_name: str) -> None:
    async with opened(Bearer(field_name=field_name)) as (registry, upstreams, image):
        assert (await upstreams.manifest(REPOSITORY, TAG)).anonymous
        for blob in image.blobs:
            await upstreams.fill(Wanted(REPOSITORY, blob.digest, blob.size), MemorySink())
        assert [seen.kind for seen in registry.requests] == ["manifests", "token", "manifests", *["blobs"] * 3]


async def test_what_a_namespace_asks_for_is_known_for_its_next_repository() -> None:
    async with opened(Bearer(scope="repository:user/image:pull")) as (registry, upstreams, _):
        await upstreams.manifest(REPOSITORY, TAG)
        registry.push("team/other", make_image("other", (10,)), "latest")
        registry.requests.clear()
        await upstreams.manifest(Repository(NAMESPACE, "team/other"), TAG)
        assert [seen.kind for seen in registry.requests] == ["token", "manifests"]
        assert "scope=repository:team/other:pull" in registry.requests[0].path


async def test_a_scope_of_no_repository_is_asked_for_as_well() -> None:
    async with opened(Bearer(scope="aws")) as (registry, upstreams, _):
        await upstreams.manifest(REPOSITORY, TAG)
        (seen,) = registry.asked("token")
        assert seen.path.endswith("scope=repository:team/app:pull&scope=aws")


async def test_many_at_once_share_one_token_request() -> None:
    async with opened(Bearer()) as (registry, upstreams, image):
        await upstreams.manifest(REPOSITORY, TAG)
        registry.expire_tokens()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for blob in image.blobs * 4:
                tasks.create_task(upstreams.fill(Wanted(REPOSITORY, blob.digest, blob.size), MemorySink()))
        assert len(registry.asked("token")) == 2


async def test_many_at_once_share_one_refusal_of_the_token_service() -> None:
    async with opened(Bearer()) as (registry, upstreams, image):
        registry.fault("token", "*", Fault(silent=True))
        async with asyncio.timeout(4):
            asked = (upstreams.blob_size(REPOSITORY, blob.digest) for blob in image.blobs * 4)
            results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(result, UnreachableError) for result in results)


@pytest.mark.parametrize(
    ("expires_in", "fresh_s"), [(300, 239.0), (None, 47.0), ("soon", 47.0), (-5, 47.0), (10**9, 34_000.0)]
)
async def test_a_token_is_renewed_before_it_expires(expires_in: object, fresh_s: float) -> None:
    clock = [1000.0]
    async with opened(Bearer(expires_in=expires_in), clock=clock) as (registry, upstreams, _):
        await upstreams.manifest(REPOSITORY, TAG)
        clock[0] += fresh_s
        await upstreams.manifest(REPOSITORY, TAG)
        assert len(registry.asked("token")) == 1
        clock[0] += fresh_s * 0.2
        await upstreams.manifest(REPOSITORY, TAG)
        assert len(registry.asked("token")) == 2


async def test_a_token_that_is_refused_early_is_replaced_once() -> None:
    async with opened(Bearer()) as (registry, upstreams, _):
        await upstreams.manifest(REPOSITORY, TAG)
        registry.expire_tokens()
        registry.requests.clear()
        await upstreams.manifest(REPOSITORY, TAG)
        assert [seen.kind for seen in registry.requests] == ["manifests", "token", "manifests"]


async def test_a_private_repository_is_denied_to_an_anonymous_client() -> None:
    async with opened(Bearer(private=frozenset({"team/app"}))) as (registry, upstreams, image):
        with pytest.raises(DeniedError):
            await upstreams.manifest(REPOSITORY, TAG)
        assert len(registry.requests) == 3
        assert not await upstreams.prove_public(REPOSITORY, image.manifest.digest)


@pytest.mark.parametrize("auth", [Bearer(USERS, frozenset({"team/app"})), Basic(USERS)])
async def test_a_login_reads_what_is_private_and_does_not_make_it_public(auth: Auth) -> None:
    async with opened(auth, Login("me", "secret")) as (registry, upstreams, image):
        fetched = await upstreams.manifest(REPOSITORY, TAG)
        assert not fetched.anonymous
        assert not (await upstreams.resolve(REPOSITORY, TAG)).anonymous
        registry.requests.clear()
        assert not await upstreams.prove_public(REPOSITORY, image.manifest.digest)
        sent = [seen.headers.get("Authorization", "") for seen in registry.requests]
        assert not any("Basic" in header for header in sent)


async def test_a_login_is_sent_up_front_once_it_is_known_to_be_wanted() -> None:
    async with opened(Basic(USERS), Login("me", "secret")) as (registry, upstreams, _):
        await upstreams.manifest(REPOSITORY, TAG)
        await upstreams.manifest(REPOSITORY, TAG)
        assert len(registry.requests) == 3


async def test_a_login_that_is_not_asked_for_is_not_sent() -> None:
    async with opened(None, Login("me", "secret")) as (registry, upstreams, _):
        assert (await upstreams.manifest(REPOSITORY, TAG)).anonymous
        assert "Authorization" not in registry.requests[0].headers


@pytest.mark.parametrize("auth", [Bearer(USERS), Basic(USERS)])
async def test_public_content_is_proved_beside_a_login(auth: Auth) -> None:
    async with opened(auth, Login("me", "secret")) as (_, upstreams, image):
        assert not (await upstreams.manifest(REPOSITORY, TAG)).anonymous
        if isinstance(auth, Basic):
            auth.private = frozenset()
        assert await upstreams.prove_public(REPOSITORY, image.manifest.digest)


async def test_a_wrong_login_is_denied_without_showing_it() -> None:
    for auth in (Bearer(USERS, frozenset({"team/app"})), Basic(USERS)):
        async with opened(auth, Login("me", "wrong-password")) as (_, upstreams, _image):
            with pytest.raises(DeniedError) as caught:
                await upstreams.manifest(REPOSITORY, TAG)
            assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize("auth", [Bearer(USERS), Basic(USERS, frozenset())])
async def test_a_wrong_login_hides_nothing_that_anybody_may_read(auth: Auth) -> None:
    async with opened(auth, Login("me", "wrong-password")) as (_, upstreams, image):
        fetched = await upstreams.manifest(REPOSITORY, TAG)
        assert fetched.anonymous and fetched.manifest.data == image.manifest.data


async def test_nothing_is_proved_public_by_a_registry_that_cannot_answer() -> None:
    async with opened(Bearer()) as (registry, upstreams, image):
        for fault in (Fault(status=429), Fault(status=500), Fault(reset=True)):
            registry.fault("manifests", "*", fault)
            with pytest.raises(UnreachableError):
                await upstreams.prove_public(REPOSITORY, image.manifest.digest)


async def test_a_namespace_not_declared_public_proves_nothing(registry: FakeRegistry) -> None:
    image = registry.push("team/app", make_image("seed", (10,)))
    async with Upstreams([UpstreamConfig.parse(NAMESPACE, registry.url)], limits=LIMITS) as upstreams:
        assert not await upstreams.prove_public(REPOSITORY, image.manifest.digest)
    assert not registry.requests


async def test_a_foreign_realm_is_refused_in_one_clear_line_and_never_asked() -> None:
    async with FakeRegistry(auth=Bearer(USERS)) as thief:
        realm = f"http://localhost:{thief.port}/token"
        async with opened(Bearer(USERS, realm=realm), Login("me", "secret")) as (_, upstreams, _image):
            with pytest.raises(DeniedError, match="refused: it belongs to another domain"):
                await upstreams.manifest(REPOSITORY, TAG)
        assert not thief.requests


async def test_a_realm_on_another_port_of_the_same_host_gets_the_login() -> None:
    async with FakeRegistry(auth=Bearer(USERS)) as service:
        auth = Bearer(USERS, realm=f"{service.url}/token")
        async with opened(auth, Login("me", "secret")) as (registry, upstreams, _):
            service.tokens = registry.tokens
            assert await upstreams.manifest(REPOSITORY, TAG)
            (seen,) = service.requests
            assert seen.headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=401), DeniedError),
        (Fault(status=429, retry_after="3"), ThrottledError),
        (Fault(status=503), UnreachableError),
        (Fault(location="http://127.0.0.1:1/"), UnreachableError),
        (Fault(reset=True), UnreachableError),
    ],
)
async def test_a_failing_token_service_has_its_name(fault: Fault, error: type[LayermeshError]) -> None:
    async with opened(Bearer()) as (registry, upstreams, _):
        registry.fault("token", "*", fault)
        with pytest.raises(error):
            await upstreams.manifest(REPOSITORY, TAG)


@pytest.mark.parametrize("field_name", ["tokken", "expires_in"])
async def test_an_answer_without_a_token_is_no_answer(field_name: str) -> None:
    async with opened(Bearer(field_name=field_name)) as (_, upstreams, _image):
        with pytest.raises(UnreachableError, match="usable token"):
            await upstreams.manifest(REPOSITORY, TAG)


@pytest.mark.parametrize("posts", [True, False])
async def test_an_identity_token_is_exchanged_by_post_or_where_that_is_not_known_by_get(posts: bool) -> None:
    auth = Bearer({"me": "identity"}, frozenset({"team/app"}), identities={"identity": "me"} if posts else None)
    async with opened(auth, Login("me", "", "identity")) as (registry, upstreams, image):
        assert not (await upstreams.manifest(REPOSITORY, TAG)).anonymous
        await upstreams.resolve(REPOSITORY, image.manifest.digest)
        assert [seen.method for seen in registry.asked("token")] == (["POST"] if posts else ["POST", "GET"])
        assert not any("identity" in seen.path for seen in registry.requests)


async def test_an_identity_token_that_is_refused_is_denied_without_showing_it() -> None:
    auth = Bearer({"me": "other"}, frozenset({"team/app"}), identities={"other": "me"})
    async with opened(auth, Login("me", "", "wrong-token")) as (_, upstreams, _image):
        with pytest.raises(DeniedError) as caught:
            await upstreams.manifest(REPOSITORY, TAG)
        assert "wrong-token" not in str(caught.value)


async def test_a_foreign_realm_gets_no_identity_token() -> None:
    async with FakeRegistry(auth=Bearer(identities={"identity": "me"})) as thief:
        realm = f"http://localhost:{thief.port}/token"
        async with opened(Bearer(realm=realm), Login("me", "", "identity")) as (_, upstreams, _image):
            with pytest.raises(DeniedError, match="refused: it belongs to another domain"):
                await upstreams.manifest(REPOSITORY, TAG)
        assert not thief.requests


async def test_a_registry_that_hides_what_nobody_may_see_is_shown_the_login_that_it_asks_for_elsewhere() -> None:
    """Docker and Podman learn at `/v2/` that it wants one."""
    async with opened(Basic({"me": "secret"}, hides=True), Login("me", "secret")) as (registry, upstreams, image):
        for _ in range(2):
            assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest
        assert len(registry.asked("v2")) == 1
        with pytest.raises(NotFoundError):
            await upstreams.manifest(Repository(REPOSITORY.namespace, "team/none"), TAG)


async def test_a_registry_that_wants_no_login_is_asked_for_that_once() -> None:
    async with opened(None, Login("me", "secret")) as (registry, upstreams, _image):
        for name in ("team/none", "team/nothing"):
            with pytest.raises(NotFoundError):
                await upstreams.manifest(Repository(REPOSITORY.namespace, name), TAG)
        assert len(registry.asked("v2")) == 1


async def test_each_login_has_its_own_token() -> None:
    async with opened(Bearer({"me": "secret"}), Login("me", "secret")) as (registry, upstreams, image):
        await upstreams.manifest(REPOSITORY, TAG)
        assert await upstreams.prove_public(REPOSITORY, image.manifest.digest)
        by_login = ["Authorization" in seen.headers for seen in registry.asked("token")]
        assert by_login == [True, False]


async def test_the_netrc_file_is_never_read(
    registry: FakeRegistry,
    upstreams: Upstreams,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    image = registry.push("team/app", make_image("seed", (10,)))
    assert await upstreams.prove_public(REPOSITORY, image.manifest.digest)
    assert "Authorization" not in registry.requests[0].headers


async def test_a_token_that_comes_encoded_though_nobody_asked_is_read_all_the_same() -> None:
    async with opened(Bearer()) as (registry, upstreams, image):
        registry.fault("token", "*", Fault(encoding="gzip"))
        assert (await upstreams.manifest(REPOSITORY, TAG)).manifest.digest == image.manifest.digest


async def test_a_token_service_that_encodes_as_nobody_can_read_is_an_outage() -> None:
    async with opened(Bearer()) as (registry, upstreams, _):
        registry.fault("token", "*", Fault(encoding="br"))
        with pytest.raises(UnreachableError, match="br"):
            await upstreams.manifest(REPOSITORY, TAG)
