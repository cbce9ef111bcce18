"""Redirects, TLS, proxies and upstreams out of reach, over the wire."""

import asyncio
import ssl
from collections.abc import Callable

import pytest
import trustme

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from facade.upstream.resolving import Screening
from node.errors import UnreachableError
from node.reference import Tag
from node.source import Wanted
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import Basic
from tests.fakes.sinks import MemorySink

TAG = Tag("latest")
DATA = b"behind a redirect"
SIGNED = "/a%2Fb/%7Ec?sig=x%2Fy%3D%7E&r=a+b"


async def test_a_redirect_is_followed_to_the_letter_and_without_the_login(registry: FakeRegistry) -> None:
    registry.auth = Basic({"me": "secret"})
    digest = registry.put_blob("team/app", DATA)
    async with FakeRegistry() as storage:
        storage.files["/a/b/~c"] = DATA
        registry.push("team/app", make_image("seed", (10,)), "latest")
        credentials = Credentials({(registry.address, ""): Login("me", "secret")})
        config = UpstreamConfig.parse(NAMESPACE, registry.url)
        async with Upstreams([config], credentials=credentials, limits=LIMITS) as upstreams:
            await upstreams.manifest(REPOSITORY, TAG)
            registry.fault("blobs", digest, Fault(location=storage.url + SIGNED))
            sink = MemorySink()
            await upstreams.fill(Wanted(REPOSITORY, digest, len(DATA)), sink)
        (seen,) = storage.requests
        assert bytes(sink.data) == DATA
        assert seen.path == SIGNED
        assert "Authorization" not in seen.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_range_goes_along_with_every_kind_of_redirect(
    registry: FakeRegistry, upstreams: Upstreams, status: int
) -> None:
    digest = registry.put_blob("team/app", DATA)
    registry.files["/file"] = DATA
    registry.fault("blobs", digest, Fault(location="/file", redirect_status=status))
    sink = MemorySink(DATA[:4], len(DATA))
    await upstreams.fill(Wanted(REPOSITORY, digest, len(DATA)), sink)
    assert bytes(sink.data) == DATA
    assert sink.offsets == [4]


async def test_a_redirect_loop_ends(registry: FakeRegistry, upstreams: Upstreams) -> None:
    registry.fault("manifests", "*", Fault(location="/v2/team/app/manifests/latest"))
    with pytest.raises(UnreachableError, match="more than 5 times"):
        await upstreams.manifest(REPOSITORY, TAG)
    assert len(registry.requests) == 6


async def test_names_that_mean_private_addresses_are_screened() -> None:
    with pytest.raises(OSError, match="private addresses only"):
        await Screening().resolve("localhost", 80)


async def test_an_upstream_that_refuses_is_put_aside_until_it_answers(registry: FakeRegistry) -> None:
    now = [0.0]
    registry.push("team/app", make_image("seed", (10,)), "latest")
    config = UpstreamConfig.parse(NAMESPACE, registry.url)
    async with Upstreams([config], limits=LIMITS, clock=lambda: now[0]) as upstreams:
        await registry.stop()
        with pytest.raises(UnreachableError):
            await upstreams.resolve(REPOSITORY, TAG)
        assert not upstreams.available(NAMESPACE)
        now[0] = 5.0
        assert upstreams.available(NAMESPACE)
        now[0] = 1.0
        await registry.start()
        await upstreams.resolve(REPOSITORY, TAG)
        assert upstreams.available(NAMESPACE)


async def test_a_refused_connection_is_said_in_plain_words(registry: FakeRegistry, upstreams: Upstreams) -> None:
    port = registry.address.rpartition(":")[2]
    await registry.stop()
    with pytest.raises(UnreachableError, match=f"^127.0.0.1 gives no answer: port {port}: connection refused$"):
        await upstreams.manifest(REPOSITORY, TAG)


async def test_an_upstream_that_never_answers_is_given_up_in_time(registry: FakeRegistry, upstreams: Upstreams) -> None:
    registry.silent = True
    async with asyncio.timeout(LIMITS.headers_s + 2):
        with pytest.raises(UnreachableError, match="no headers in time"):
            await upstreams.manifest(REPOSITORY, TAG)
    assert not upstreams.available(NAMESPACE)


async def test_a_status_of_any_kind_puts_nothing_aside(registry: FakeRegistry, upstreams: Upstreams) -> None:
    registry.fault("manifests", "*", Fault(status=500))
    with pytest.raises(UnreachableError):
        await upstreams.manifest(REPOSITORY, TAG)
    assert upstreams.available(NAMESPACE)


async def test_a_cancelled_fill_lets_go_of_its_connection(registry: FakeRegistry, upstreams: Upstreams) -> None:
    digest = registry.put_blob("team/app", b"x" * 1000)
    registry.fault("blobs", digest, Fault(stall_after=10))
    sink = MemorySink()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        filling = tasks.create_task(upstreams.fill(Wanted(REPOSITORY, digest, 1000), sink))
        await sink.started.wait()
        filling.cancel()
    registry.heal()
    assert await upstreams.blob_size(REPOSITORY, digest) == 1000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    def context(name: str) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(made)
        return made

    return context


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.1", True), ("127.0.0.1", False), ("other.test", True)])
async def test_tls_is_verified(
    authority: trustme.CA, server_tls: Callable[[str], ssl.SSLContext], name: str, trusted: bool
) -> None:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with FakeRegistry(tls=server_tls(name)) as registry:
        image = registry.push("team/app", make_image("seed", (500_000,)), "latest")
        config = UpstreamConfig.parse(NAMESPACE, registry.url)
        tls = {NAMESPACE: client} if trusted else None
        async with Upstreams([config], limits=LIMITS, tls=tls) as upstreams:
            if name == "127.0.0.1" and trusted:
                layer, sink = image.layers[0], MemorySink()
                await upstreams.fill(Wanted(REPOSITORY, layer.digest, layer.size), sink)
                assert bytes(sink.data) == layer.data
                return
            with pytest.raises(UnreachableError, match=r"(?i)certificate"):
                await upstreams.manifest(REPOSITORY, TAG)
        assert not registry.requests


async def test_tls_is_never_left_by_a_redirect(
    authority: trustme.CA, server_tls: Callable[[str], ssl.SSLContext], registry: FakeRegistry
) -> None:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with FakeRegistry(tls=server_tls("127.0.0.1")) as secure:
        secure.fault("manifests", "*", Fault(location=registry.url + "/v2/team/app/manifests/latest"))
        config = UpstreamConfig.parse(NAMESPACE, secure.url)
        async with Upstreams([config], limits=LIMITS, tls={NAMESPACE: client}) as upstreams:
            with pytest.raises(UnreachableError, match="from https to http"):
                await upstreams.manifest(REPOSITORY, TAG)
    assert not registry.requests
