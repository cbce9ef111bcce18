"""Foreign pages in a browser of this machine get nothing from loopback listeners."""

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from facade.hosts import guard, is_loopback, refusal
from facade.settings import Address


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:5050", "127.0.0.1", "127.9.9.9:1", "localhost:5050", "LOCALHOST", "a.localhost:1", "[::1]:5050", None],
)
def test_loopback_names_are_let_through(host: str | None) -> None:
    assert refusal(host, None, "127.0.0.1") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:5050",
        "localhost.evil.test:5050",
        "127.0.0.1.evil.test",
        "10.0.0.1:5050",
        "",
        "[fe80::1]:1",
    ],
)
def test_every_other_name_is_refused(host: str) -> None:
    assert "is not this machine" in str(refusal(host, None, "127.0.0.1"))


def test_the_name_the_operator_listens_on_is_let_through() -> None:
    assert refusal("Registry.Local:5050", None, "registry.local") is None


def test_a_page_served_by_this_listener_may_ask_it() -> None:
    assert refusal("localhost:5052", "http://localhost:5052", "127.0.0.1") is None


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://localhost:3000", "http://127.0.0.1:5052", ""])
def test_a_page_from_another_origin_may_not(origin: str) -> None:
    assert "may not ask here" in str(refusal("localhost:5052", origin, "127.0.0.1"))


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("box", False)])
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(("listen", "status"), [("127.0.0.1", 403), ("0.0.0.0", 200)])
async def test_a_foreign_host_is_refused_on_loopback_listeners_only(listen: str, status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[guard(Address(listen, 0), lambda why: web.Response(status=403, text=why))])
    app.router.add_get("/", answer)
    async with TestServer(app) as server, ClientSession() as session:
        async with session.get(server.make_url("/"), headers={"Host": "evil.test"}) as response:
            assert response.status == status
        async with session.get(server.make_url("/")) as response:
            assert response.status == 200
