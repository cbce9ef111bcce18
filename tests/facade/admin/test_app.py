"""The admin listener on the wire."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from yarl import URL

from cluster.cluster import PeerState
from facade.admin.app import admin_app
from facade.admin.status import Readiness, Running, status
from facade.admin.where import Where
from facade.clock import ClockWatch
from facade.gateways import GatewayStatus
from facade.metrics import Metrics
from facade.settings import Address
from facade.upstream.breaker import BreakerState
from facade.upstream.config import UpstreamConfig
from tests.facade.admin.known import FACADE, Known, peer


class Broken(Where):
    """A bug."""

    async def answer(self, text: str, now: float) -> Any:
        raise RuntimeError("secret detail")


@pytest.fixture
def known() -> Known:
    """What the node knows."""
    known = Known()
    known.keep(b"a blob")
    known.neighbours = (peer("left", PeerState.ALIVE), peer("right", PeerState.GONE))
    known.warnings = ("eth9: no multicast",)
    return known


@pytest.fixture
def running(known: Known, tmp_path: Path) -> Running:
    """A node that is not ready yet."""
    return Running(
        name="here",
        version="1.2.3",
        data=tmp_path,
        listeners={"facade": Address("127.0.0.1", 5050)},
        store=known,
        cluster=known,
        upstreams=(UpstreamConfig("docker.io", (URL("https://registry-1.docker.io/"),), public=True),),
        available=lambda namespace: False,
        conflicts=known.conflicts,
        breaker=lambda endpoint: BreakerState.OPEN,
        metrics=Metrics(),
        readiness=Readiness(),
        clock=ClockWatch(),
        started=0.0,
    )


@pytest.fixture
async def client(running: Running, known: Known) -> AsyncIterator[ClientSession]:
    """A client of its admin listener."""
    app = admin_app(running, Where(known, known, known.owned, known, ("docker.io",), FACADE), Address("127.0.0.1", 0))
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as session:
        yield session


async def test_live_from_the_start_but_ready_only_when_it_serves(client: ClientSession, running: Running) -> None:
    async with client.get("/livez") as live, client.get("/readyz") as unready:
        assert (live.status, unready.status) == (200, 503)
        assert await unready.json() == {"error": "starting"}
    running.readiness.reason = None
    async with client.get("/readyz") as ready:
        assert (ready.status, await ready.json()) == (200, {"ready": True})


async def test_status_tells_the_node_at_a_glance(client: ClientSession) -> None:
    async with client.get("/api/status") as response:
        answer = await response.json()
    assert (answer["name"], answer["version"], answer["blobs"], answer["store_bytes"]) == ("here", "1.2.3", 1, 6)
    assert answer["peers"] == {"candidate": 0, "alive": 1, "suspect": 0, "gone": 1}
    assert answer["listeners"] == {"facade": "127.0.0.1:5050"}
    assert answer["upstreams"][0] == {
        "namespace": "docker.io",
        "endpoint": "https://registry-1.docker.io/",
        "public": True,
        "access": "refuse",
        "available": False,
        "endpoints": [{"url": "https://registry-1.docker.io/", "breaker": "open"}],
    }
    assert (answer["ipfs"]["network"], answer["ipfs"]["usable"], answer["ipfs"]["url"]) == ("embedded", True, None)
    assert "eth9: no multicast" in answer["warnings"]
    assert any("docker.io: https://registry-1.docker.io/ did not answer" in line for line in answer["warnings"])


async def test_a_data_folder_that_is_gone_is_a_warning(client: ClientSession, running: Running) -> None:
    running.data.rmdir()
    async with client.get("/api/status") as response:
        answer = await response.json()
    assert answer["disk_free_bytes"] is None
    assert "cannot be read any more" in answer["warnings"][0]


async def test_what_keeps_a_node_from_being_a_peer_is_a_warning(client: ClientSession, known: Known) -> None:
    known.neighbours = (
        replace(peer("late", PeerState.CANDIDATE), note="its clock differs by 300 s"),
        replace(peer("left", PeerState.GONE), note="no answer"),
    )
    async with client.get("/api/status") as response:
        warnings = (await response.json())["warnings"]
    assert "late: its clock differs by 300 s" in warnings
    assert not any("no answer" in warning for warning in warnings)


async def test_peers_are_listed(client: ClientSession) -> None:
    async with client.get("/api/peers") as response:
        answer = await response.json()
    assert [(peer["name"], peer["state"]) for peer in answer["peers"]] == [("left", "alive"), ("right", "gone")]


async def test_where_answers_for_a_digest(client: ClientSession, known: Known) -> None:
    digest = next(iter(known.blobs))
    async with client.get("/api/where", params={"ref": str(digest)}) as response:
        assert (await response.json())["blobs"][0]["here"] is True


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/api/where", 400, "the parameter ref is expected once"),
        ("GET", "/api/where?ref=a&ref=b", 400, "the parameter ref is expected once"),
        ("GET", "/api/where?ref=UPPER", 400, "repository name"),
        ("GET", "/api/where?ref=other", 404, "has not been pulled"),
        ("GET", "/api/where?ref=%ff%00", 400, "repository name"),
        ("GET", "/nothing", 404, "not a path of this listener; try /api/status, /api/peers, /api/where?ref=,"),
        ("POST", "/api/status", 405, "POST is not allowed here, only GET, HEAD"),
    ],
)
async def test_a_refusal_is_json_that_says_what_is_wrong(
    client: ClientSession, method: str, path: str, status: int, message: str
) -> None:
    async with client.request(method, URL(path, encoded=True)) as response:
        assert response.status == status
        assert message in (await response.json())["error"]


async def test_a_foreign_page_gets_nothing(client: ClientSession) -> None:
    async with client.get("/api/status", headers={"Host": "evil.test"}) as response:
        assert response.status == 403
        assert set(await response.json()) == {"error"}


async def test_a_bug_shows_no_inner_detail(running: Running, known: Known) -> None:
    app = admin_app(running, Broken(known, known, known.owned, known, (), FACADE), Address("127.0.0.1", 0))
    async with (
        TestServer(app) as server,
        ClientSession(server.make_url("/")) as session,
        session.get("/api/where", params={"ref": "app"}) as response,
    ):
        assert response.status == 500
        assert "secret" not in await response.text()


async def test_metrics_count_the_admin_listener_itself(client: ClientSession) -> None:
    async with client.get("/livez"):
        pass
    async with client.get("/metrics") as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("text/plain")
    assert 'http_server_requests_total{code="200",listener="admin",method="GET"} 1.0' in text


async def test_status_tells_of_gateways_and_why_one_is_not_asked(running: Running) -> None:
    seen = (GatewayStatus("http://one", None, 5), GatewayStatus("http://two", "a web page came", 0))
    report = await status(replace(running, gateways=lambda: seen))
    assert [(each.url, each.set_aside, each.received_bytes) for each in report.gateways] == [
        ("http://one", None, 5),
        ("http://two", "a web page came", 0),
    ]
    assert "gateway http://two is not asked now: a web page came" in report.warnings
