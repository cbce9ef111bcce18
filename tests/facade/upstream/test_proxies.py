"""Which proxy the environment names."""

import socket

import pytest
from yarl import URL

from facade.upstream.client import Upstreams
from facade.upstream.config import UpstreamConfig
from facade.upstream.proxies import Proxies
from node.errors import UnreachableError
from node.reference import Tag
from tests.facade.upstream.conftest import LIMITS, NAMESPACE, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry

NAMED = {"https": "http://me:word@proxy.test:3128", "http": "plain.test:80", "no": "corp.test,10.0.0.1"}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://registry.test/v2/", "http://proxy.test:3128"),
        ("http://registry.test/v2/", "http://plain.test:80"),
        ("https://corp.test/v2/", None),
        ("https://a.corp.test:5000/v2/", None),
        ("https://10.0.0.1/v2/", None),
        ("https://127.0.0.1:5000/v2/", None),
        ("http://localhost/v2/", None),
        ("http://[::1]/v2/", None),
    ],
)
def test_a_proxy_is_chosen_by_scheme_and_host(url: str, proxy: str | None) -> None:
    chosen = Proxies(NAMED).choose(URL(url))
    assert (chosen.with_user(None) if chosen else None) == (URL(proxy) if proxy else None)


async def test_requests_go_through_the_proxy_with_its_own_login(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = registry.push("team/app", make_image("seed", (10,)), "latest")
    monkeypatch.setenv("http_proxy", f"http://me:word@{registry.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with Upstreams([UpstreamConfig.parse(NAMESPACE, "http://far.invalid")], limits=LIMITS) as upstreams:
        fetched = await upstreams.manifest(REPOSITORY, Tag("latest"))
    (seen,) = registry.requests
    assert fetched.manifest.digest == image.manifest.digest
    assert (seen.headers["Host"], seen.path) == ("far.invalid", "http://far.invalid/v2/team/app/manifests/latest")
    assert seen.headers["Proxy-Authorization"] == "Basic bWU6d29yZA=="


def test_no_proxy_or_one_of_another_kind_is_none() -> None:
    assert Proxies({}).choose(URL("https://registry.test")) is None
    assert Proxies({"https": "socks5://proxy.test"}).choose(URL("https://registry.test")) is None


@pytest.mark.parametrize("names", [("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")])
def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in zip(names, ("http://proxy.test:1", "corp.test"), strict=True):
        monkeypatch.setenv(name, value)
    proxies = Proxies.from_environment()
    assert proxies.choose(URL("https://registry.test")) is not None
    assert proxies.choose(URL("https://a.corp.test")) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inside.test"])
async def test_a_public_registry_cannot_send_us_into_the_private_network(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def look_up(name: str, *_more: object, **_options: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", inside.port))]

    monkeypatch.setenv("http_proxy", registry.url)
    monkeypatch.setenv("no_proxy", "inside.test")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with FakeRegistry() as inside:
        registry.fault("manifests", "*", Fault(location=f"http://{host}:{inside.port}/secret"))
        async with Upstreams([UpstreamConfig.parse(NAMESPACE, "http://far.invalid")], limits=LIMITS) as upstreams:
            with pytest.raises(UnreachableError, match="private address"):
                await upstreams.manifest(REPOSITORY, Tag("latest"))
        assert len(registry.requests) == 1
        assert not inside.requests
