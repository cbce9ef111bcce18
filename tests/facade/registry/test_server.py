"""What a router of aiohttp's would do for the listeners: other paths, and bodies that wait to be asked for."""

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from yarl import URL

from facade.registry.access import USERS_DO_ALL
from facade.registry.gate import Gate
from facade.registry.logins import Logins
from node.digest import Digest
from tests.facade.machine import Machine, machine
from tests.facade.pusher import Pusher
from tests.facade.registry.test_gate import users
from tests.fakes.registry import FakeRegistry

UPLOADS = "/v2/team/app/blobs/uploads/"


async def _heads(url: URL, request: str, body: bytes = b"") -> list[str]:
    """The status lines that come back; the body is sent once it was asked for."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(10):
            writer.write(request.replace("\n", "\r\n").encode())
            lines = [(await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()]
            if lines[0].startswith("HTTP/1.1 100"):
                writer.write(body)
                lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
    finally:
        writer.close()
        await writer.wait_closed()
    return lines


def _push(expect: str) -> str:
    target = f"{UPLOADS}?digest={Digest.of(b'abc')}"
    return f"POST {target} HTTP/1.1\nHost: localhost\nContent-Length: 3\nExpect: {expect}\n\n"


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2x/team/app/manifests/1", "/team/app/manifests/1", "/metrics"])
async def test_only_v2_is_served(node: Machine, path: str) -> None:
    async with node.session.get(f"{node.facade}{path}") as response:
        assert response.status == 404
        assert "only /v2/" in await response.text()


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(node: Machine) -> None:
    assert await _heads(URL(node.facade), _push("100-continue"), b"abc") == [
        "HTTP/1.1 100 Continue",
        "HTTP/1.1 201 Created",
    ]


async def test_a_body_is_not_asked_for_of_who_may_not_push(tmp_path: Path, registry: FakeRegistry) -> None:
    async with machine(tmp_path / "closed", registry, gate=Gate(Logins(users()), USERS_DO_ALL)) as node:
        assert await _heads(URL(node.facade), _push("100-continue")) == ["HTTP/1.1 401 Unauthorized"]


@pytest.mark.parametrize(
    ("request_line", "more", "status"),
    [
        ("PUT /v2/team/app/manifests/latest", "Content-Length: 99999999", "413 Request Entity Too Large"),
        ("PUT /v2/team/app/blobs/uploads/none?digest=x", "Content-Length: 3", "404 Not Found"),
        ("PUT /v2/ghcr.io/team/app/manifests/latest", "Content-Length: 3", "405 Method Not Allowed"),
        (f"POST {UPLOADS}?digest=x", "Content-Length: 3", "400 Bad Request"),
        (f"POST {UPLOADS}?digest={Digest.of(b'abc')}", "Content-Range: 5-7\nContent-Length: 3", "416 "),
    ],
)
async def test_a_body_that_is_refused_unseen_is_not_asked_for(
    node: Machine, request_line: str, more: str, status: str
) -> None:
    (line,) = await _heads(
        URL(node.facade), f"{request_line} HTTP/1.1\nHost: localhost\n{more}\nExpect: 100-continue\n\n"
    )
    assert line.startswith(f"HTTP/1.1 {status}")


async def test_another_expectation_is_refused(node: Machine) -> None:
    assert await _heads(URL(node.facade), _push("a-miracle")) == ["HTTP/1.1 417 Expectation Failed"]


async def test_a_blob_whose_file_shrinks_is_cut_and_nothing_else_follows_in_its_body(
    node: Machine, tmp_path: Path
) -> None:
    data, left = bytes(64 * 1024 * 1024), 40 * 1024 * 1024
    digest = Digest.of(data)
    assert (await Pusher(node).send("POST", f"blobs/uploads/?digest={digest}", data)).status == 201
    file = tmp_path / "a" / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex
    url = URL(node.facade)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(10):
            writer.write(f"GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.to_thread(file.chmod, 0o644)
            await asyncio.to_thread(os.truncate, file, left)  # the sockets hold less than what is left of it then
            body = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    assert len(body) <= left and not any(body)


async def test_a_body_is_kept_as_it_was_sent_whatever_encoding_it_names(node: Machine) -> None:
    data = gzip.compress(b"a layer", mtime=0)
    digest = Digest.of(data)
    pushed = await Pusher(node).send("POST", f"blobs/uploads/?digest={digest}", data, {"Content-Encoding": "gzip"})
    assert pushed.status == 201
    assert (await node.get(f"/v2/team/app/blobs/{digest}")).data == data


async def test_an_encoding_that_a_manifest_does_not_have_is_no_defect_of_this_node(node: Machine) -> None:
    pushed = await Pusher(node).send("PUT", "manifests/latest", b"abc", {"Content-Encoding": "gzip"})
    assert pushed.status == 400 and b"MANIFEST_INVALID" in pushed.data
