"""Pushing blobs (OCI distribution specification 1.1, "Pushing blobs"): each way, each rule, each way to fail."""

import asyncio
import io
from pathlib import Path

import pytest
from yarl import URL

from node.digest import Algorithm, Digest
from node.reference import Repository
from node.visibility import FOREVER, Proof, Visibility
from tests.facade.machine import Machine, Pulled, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.images import make_bytes, make_image
from tests.fakes.registry import FakeRegistry

MIB = 1024 * 1024
DATA = make_bytes("pushed", 3 * MIB + 5)
DIGEST = Digest.of(DATA)
WRONG = Digest.of(b"something else")
CHUNKS = ((0, MIB), (MIB, 2 * MIB), (2 * MIB, len(DATA)))


@pytest.fixture
def pusher(node: Machine) -> Pusher:
    return Pusher(node)


async def pulled(pusher: Pusher, digest: Digest) -> Pulled:
    return await pusher.send("GET", f"blobs/{digest}")


async def kept(pusher: Pusher, data: bytes, digest: Digest) -> bool:
    """Whether a blob is pulled as it was pushed, with what every answer must say."""
    got, head = await pulled(pusher, digest), await pusher.send("HEAD", f"blobs/{digest}")
    assert head.status == got.status
    if got.status == 404:
        return False
    for answer in (got, head):
        assert answer.headers["Docker-Content-Digest"] == str(digest)
        assert answer.headers["Content-Length"] == str(len(data))
    return got.data == data


def files(node: Machine) -> list[str]:
    """What uploads left."""
    return [each.name for each in (node.store.folder / "uploads").iterdir()]


async def offset(pusher: Pusher, where: str) -> str:
    answer = await pusher.send("GET", where)
    assert (answer.status, answer.headers["Location"]) == (204, where)
    return answer.headers["Range"]


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "short", "long"])
async def test_a_blob_is_pushed_by_one_post(node: Machine, pusher: Pusher, data: bytes, algorithm: Algorithm) -> None:
    digest = Digest.of(data, algorithm)
    answer = await pusher.send("POST", f"blobs/uploads/?digest={digest}", data)
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    assert await kept(pusher, data, digest)
    assert files(node) == []


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "short", "long"])
async def test_a_blob_is_pushed_by_post_and_put(
    node: Machine, pusher: Pusher, data: bytes, algorithm: Algorithm
) -> None:
    digest = Digest.of(data, algorithm)
    answer = await pusher.send("PUT", f"{await pusher.begin()}?digest={digest}", data)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, str(digest))
    assert await kept(pusher, data, digest)
    assert files(node) == []


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_a_blob_is_pushed_by_a_patch_without_a_length(pusher: Pusher, algorithm: Algorithm) -> None:
    digest = Digest.of(DATA, algorithm)
    where = await pusher.begin(f"?digest-algorithm={algorithm}")
    assert await pusher.stream("PATCH", where, (DATA[at:stop] for at, stop in CHUNKS)) == 202
    assert await offset(pusher, where) == f"0-{len(DATA) - 1}"
    assert (await pusher.send("PUT", f"{where}?digest={digest}")).status == 201
    assert await kept(pusher, DATA, digest)


@pytest.mark.parametrize("last_by_put", [True, False])
@pytest.mark.parametrize("algorithm", Algorithm)
async def test_a_blob_is_pushed_in_chunks(pusher: Pusher, algorithm: Algorithm, last_by_put: bool) -> None:
    digest = Digest.of(DATA, algorithm)
    where = await pusher.begin(f"?digest-algorithm={algorithm}")
    for at, stop in CHUNKS[:-1] if last_by_put else CHUNKS:
        answer = await pusher.send("PATCH", where, DATA[at:stop], {"Content-Range": f"{at}-{stop - 1}"})
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{stop - 1}")
        where = answer.headers["Location"]
    at, stop = CHUNKS[-1]
    headers = {"Content-Range": f"{at}-{stop - 1}"} if last_by_put else {}
    answer = await pusher.send("PUT", f"{where}?digest={digest}", DATA[at:stop] if last_by_put else None, headers)
    assert answer.status == 201
    assert await kept(pusher, DATA, digest)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_chunk_out_of_order_is_refused_with_where_to_go_on(pusher: Pusher, method: str) -> None:
    where = await pusher.begin()
    await pusher.send("PATCH", where, DATA[:MIB], {"Content-Range": f"0-{MIB - 1}"})
    path = where if method == "PATCH" else f"{where}?digest={DIGEST}"
    for first in (0, MIB - 1, MIB + 1, 2 * MIB, 10**18):
        answer = await pusher.send(method, path, b"x" * 10, {"Content-Range": f"{first}-{first + 9}"})
        assert answer.status == 416, first
        assert (answer.headers["Range"], answer.headers["Location"]) == (f"0-{MIB - 1}", where)
    assert await offset(pusher, where) == f"0-{MIB - 1}"
    answer = await pusher.send("PATCH", where, DATA[MIB:], {"Content-Range": f"{MIB}-{len(DATA) - 1}"})
    assert answer.status == 202
    assert (await pusher.send("PUT", f"{where}?digest={DIGEST}")).status == 201
    assert await kept(pusher, DATA, DIGEST)


@pytest.mark.parametrize(
    "text", ["5-3", "-", "a-b", "0-", "-9", "1", "", "0-9-1", "0x0-0x9", "9" * 40 + "-1", "\u0660-\u0669"]
)
async def test_a_malformed_content_range_adds_nothing(pusher: Pusher, text: str) -> None:
    where = await pusher.begin()
    answer = await pusher.send("PATCH", where, b"x" * 10, {"Content-Range": text})
    assert answer.status == 400
    assert await offset(pusher, where) == "0-0"


async def test_a_body_that_is_not_as_long_as_its_range_says_is_refused(pusher: Pusher) -> None:
    where = await pusher.begin()
    answer = await pusher.send("PATCH", where, b"x" * 10, {"Content-Range": "0-4"})
    assert answer.status == 400
    assert await offset(pusher, where) == "0-0"
    assert await pusher.stream("PATCH", where, [DATA[:3]], **{"Content-Range": "0-4"}) == 400
    assert await offset(pusher, where) == "0-2"  # what came of it is right
    assert await pusher.stream("PATCH", where, [DATA[3:5], b"too much"], **{"Content-Range": "3-4"}) == 400
    assert int((await offset(pusher, where)).partition("-")[2]) <= 4


async def test_what_came_before_a_connection_broke_is_gone_on_with(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    await pusher.raw(f"PATCH {where}\nContent-Length: {len(DATA)}", DATA[:MIB])
    await until(lambda: node.store.uploads._uploads[URL(where).name].size == MIB)
    assert await offset(pusher, where) == f"0-{MIB - 1}"
    answer = await pusher.send("PATCH", where, DATA[MIB:], {"Content-Range": f"{MIB}-{len(DATA) - 1}"})
    assert answer.status == 202
    assert (await pusher.send("PUT", f"{where}?digest={DIGEST}")).status == 201
    assert await kept(pusher, DATA, DIGEST)


async def test_a_put_that_broke_off_keeps_nothing_and_can_be_gone_on_with(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    await pusher.raw(f"PUT {where}?digest={DIGEST}\nContent-Length: {len(DATA)}", DATA[:MIB])
    await until(lambda: node.store.uploads._uploads[URL(where).name].size == MIB)
    assert not await kept(pusher, DATA, DIGEST)
    assert (await pusher.send("PUT", f"{where}?digest={DIGEST}", DATA[MIB:])).status == 201
    assert await kept(pusher, DATA, DIGEST)


async def test_a_single_post_that_broke_off_leaves_nothing(node: Machine, pusher: Pusher) -> None:
    await pusher.raw(f"POST /v2/team/app/blobs/uploads/?digest={DIGEST}\nContent-Length: {len(DATA)}", DATA[:MIB])
    await until(lambda: not node.store.uploads._uploads and not files(node))
    assert not await kept(pusher, DATA, DIGEST)


async def test_a_body_with_a_malformed_chunk_is_the_clients_fault(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    for body in (b"zz\r\nwhat\r\n", b"5\r\nhello, too long\r\n0\r\n\r\n", b"-1\r\n\r\n"):
        answer = await pusher.raw(f"PATCH {where}\nTransfer-Encoding: chunked", body)
        assert not answer.startswith(b"HTTP/1.1 5"), (body, answer)
    assert not any(code == "500" for _, _, code in node.metrics._server)
    assert await offset(pusher, where) in ("0-0", "0-4")  # at most what was well formed


async def test_an_upload_goes_on_after_a_restart_of_the_node(tmp_path: Path, registry: FakeRegistry) -> None:
    async with machine(tmp_path / "b", registry) as node:
        where = await Pusher(node).begin()
        assert (await Pusher(node).send("PATCH", where, DATA[:MIB])).status == 202
    async with machine(tmp_path / "b", registry) as node:
        pusher = Pusher(node)
        assert await offset(pusher, where) == f"0-{MIB - 1}"
        answer = await pusher.send("PATCH", where, DATA[MIB:], {"Content-Range": f"{MIB}-{len(DATA) - 1}"})
        assert answer.status == 202
        assert (await pusher.send("PUT", f"{where}?digest={DIGEST}")).status == 201
        assert await kept(pusher, DATA, DIGEST)


async def test_a_cancelled_upload_is_gone(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    await pusher.send("PATCH", where, DATA)
    assert (await pusher.send("DELETE", where)).status == 204
    assert files(node) == []
    for method, path in (("GET", where), ("PATCH", where), ("PUT", f"{where}?digest={DIGEST}"), ("DELETE", where)):
        answer = await pusher.send(method, path, DATA if method in ("PATCH", "PUT") else None)
        assert (answer.status, b"BLOB_UPLOAD_UNKNOWN" in answer.data) == (404, True), method


async def test_an_upload_of_another_repository_is_not_there(node: Machine, pusher: Pusher) -> None:
    where = (await pusher.begin()).replace("team/app", "team/other")
    for method, path in (("GET", where), ("PATCH", where), ("PUT", f"{where}?digest={DIGEST}"), ("DELETE", where)):
        answer = await pusher.send(method, path, DATA if method in ("PATCH", "PUT") else None)
        assert (answer.status, b"BLOB_UPLOAD_UNKNOWN" in answer.data) == (404, True), method
    assert await offset(pusher, where.replace("team/other", "team/app")) == "0-0"


@pytest.mark.parametrize(
    "digest", ["", "sha256", "sha256:", "sha256:zz", f"sha256:{'A' * 64}", "md5:" + "a" * 32, f"{DIGEST}0", "a%00b"]
)
async def test_a_malformed_or_unsupported_digest_is_refused(pusher: Pusher, digest: str) -> None:
    where = await pusher.begin()
    for method, path in (
        ("PUT", f"{where}?digest={digest}"),
        ("POST", f"blobs/uploads/?digest={digest}"),
        ("POST", f"blobs/uploads/?mount={digest}&from=team/other"),
    ):
        answer = await pusher.send(method, path, b"x")
        assert (answer.status, b"DIGEST_INVALID" in answer.data) == (400, True), (method, path)
    assert await offset(pusher, where) == "0-0"


async def test_a_put_without_a_digest_and_an_unknown_algorithm_are_refused(pusher: Pusher) -> None:
    where = await pusher.begin()
    assert (await pusher.send("PUT", where, DATA)).status == 400
    assert await offset(pusher, where) == "0-0"
    assert (await pusher.send("POST", "blobs/uploads/?digest-algorithm=md5")).status == 400


async def test_bytes_that_do_not_hash_to_their_digest_are_refused_and_gone(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    for method, path in (("PUT", f"{where}?digest={WRONG}"), ("POST", f"blobs/uploads/?digest={WRONG}")):
        answer = await pusher.send(method, path, DATA)
        assert (answer.status, b"DIGEST_INVALID" in answer.data) == (400, True), method
    assert files(node) == []
    assert (await pulled(pusher, WRONG)).status == (await pulled(pusher, DIGEST)).status == 404


async def test_a_second_request_takes_over_and_the_first_is_told(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    may_end = asyncio.Event()

    async def slow() -> int:
        async def body() -> object:
            yield DATA[:MIB]
            await may_end.wait()
            yield DATA[MIB:]

        url = f"{node.facade}{where}"
        async with node.session.patch(url, data=body()) as answer:
            return answer.status

    first = asyncio.create_task(slow())
    await until(lambda: node.store.uploads._uploads[URL(where).name].size == MIB)
    answer = await pusher.send("PUT", f"{where}?digest={DIGEST}", DATA[MIB:])
    may_end.set()
    assert answer.status == 201
    assert await first in (400, 404, 409)
    assert await kept(pusher, DATA, DIGEST)


async def test_a_blob_is_mounted_from_another_repository_named_or_not(pusher: Pusher, node: Machine) -> None:
    await pusher.blob(DATA)
    for name, query in (("team/one", "&from=team/app"), ("team/two", "")):
        other = Pusher(node, name)
        assert not await kept(other, DATA, DIGEST)
        answer = await other.send("POST", f"blobs/uploads/?mount={DIGEST}{query}")
        assert (answer.status, answer.headers["Location"]) == (201, f"/v2/{name}/blobs/{DIGEST}")
        assert await kept(other, DATA, DIGEST)


@pytest.mark.parametrize("source", ["&from=team/nothing", "&from=../etc", "&from=", "&from=docker.io/team/app", ""])
async def test_what_cannot_be_mounted_becomes_an_upload(pusher: Pusher, source: str) -> None:
    answer = await pusher.send("POST", f"blobs/uploads/?mount={DIGEST}{source}")
    assert answer.status == 202
    assert (await pusher.send("PUT", f"{answer.headers['Location']}?digest={DIGEST}", DATA)).status == 201
    assert await kept(pusher, DATA, DIGEST)


@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.MEMBERS])
@pytest.mark.parametrize("source", ["", "&from=team/secret", "&from=docker.io/team/secret"])
async def test_nothing_hidden_of_a_mirrored_repository_is_mounted_or_guessed(
    node: Machine, pusher: Pusher, visibility: Visibility, source: str
) -> None:
    await node.store.put(DIGEST, DATA, Proof(visibility), Repository("docker.io", "team/secret"))
    answer = await pusher.send("POST", f"blobs/uploads/?mount={DIGEST}{source}")
    assert answer.status == 202
    assert not await kept(pusher, DATA, DIGEST)
    image = make_image("bait", (1000,))
    await pusher.image(image, "v1")
    named = image.manifest.data.replace(str(image.layers[0].digest).encode(), str(DIGEST).encode())
    named = named.replace(f'"size": {image.layers[0].size}'.encode(), f'"size": {len(DATA)}'.encode())
    assert (await pusher.manifest("bait", named)).status == 404


async def test_what_was_deleted_everywhere_is_not_mounted_without_a_name(node: Machine, pusher: Pusher) -> None:
    await pusher.blob(DATA)
    assert (await pusher.send("DELETE", f"blobs/{DIGEST}")).status == 202
    assert (await Pusher(node, "team/b").send("POST", f"blobs/uploads/?mount={DIGEST}")).status == 202


async def test_a_public_blob_that_is_here_is_mounted(node: Machine, pusher: Pusher, registry: FakeRegistry) -> None:
    image = registry.push("team/public", make_image("public", (1000,)), "v1")
    assert (await node.manifest("v1", "team/public")).status == 200
    layer = image.layers[0]
    assert (await node.blob(layer.digest, "team/public")).status == 200
    await node.landed(layer.digest)
    answer = await pusher.send("POST", f"blobs/uploads/?mount={layer.digest}")
    assert answer.status == 201
    assert await kept(pusher, layer.data, layer.digest)
    entry = await node.store._catalog.entry(layer.digest)
    assert entry is not None and entry.shown.members_until == FOREVER  # also when it is not proved public any more


async def test_whoever_pushes_what_is_here_and_hidden_has_it(node: Machine, pusher: Pusher) -> None:
    await node.store.put(DIGEST, DATA, Proof(Visibility.PRIVATE), Repository("docker.io", "team/secret"))
    await pusher.blob(DATA)
    assert await kept(pusher, DATA, DIGEST)
    assert (await pulled(pusher, DIGEST)).source == "local"


async def test_a_client_that_stalls_is_cut_and_may_go_on(node: Machine, pusher: Pusher) -> None:
    node.registry._pushing._stall_s = 0.3
    where = await pusher.begin()
    url = URL(node.facade)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode() + DATA[:MIB])
    async with asyncio.timeout(10):
        assert b" 20" not in (await reader.read())[:16]  # until it is cut
    writer.close()
    assert await offset(pusher, where) == f"0-{MIB - 1}"


async def test_a_client_that_waits_to_be_told_to_go_on_is_told(node: Machine, pusher: Pusher) -> None:
    where = await pusher.begin()
    url = f"{node.facade}{where}?digest={DIGEST}"
    async with node.session.put(url, data=io.BytesIO(DATA), expect100=True) as answer:
        assert answer.status == 201
    assert await kept(pusher, DATA, DIGEST)


async def test_too_many_uploads_are_told_to_wait(
    node: Machine, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.uploads.MOST_UPLOADS", 2)
    where = [await pusher.begin() for _ in range(2)]
    answer = await pusher.send("POST", "blobs/uploads/")
    assert (answer.status, b"TOOMANYREQUESTS" in answer.data) == (429, True)
    assert int(answer.headers["Retry-After"]) > 0
    await pusher.send("DELETE", where[0])
    await pusher.begin()


async def test_a_blob_whose_bytes_nobody_has_is_an_outage_and_no_defect(node: Machine, pusher: Pusher) -> None:
    await pusher.blob(DATA)
    await node.store.drop(DIGEST)
    for headers in ({}, {"Range": "bytes=3000000-3000001"}):
        answer = await pusher.send("GET", f"blobs/{DIGEST}", headers=headers)
        assert answer.status in (404, 503)
