"""Own repositories among members: what one writes all have, whoever was away, and whoever means ill."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from node.catalog import Audience, RecordChange
from node.digest import Digest
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.records import Content, Kind, Record, stamp_at
from node.reference import OWN, Repository, Tag
from node.visibility import Proof, Visibility
from tests.facade.machine import QUICK_WAITS, Machine, machine, until
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry

SECRET = b"a secret of the whole cluster"
APP = "team/app"
ORIGIN = "9" * 32
EMPTY = b"{}"


@pytest.fixture
def image() -> FakeImage:
    return make_image("replicated", (400_000,))


@pytest.fixture
def other() -> FakeImage:
    return make_image("another", (1000,))


@pytest.fixture
async def beside(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[tuple[Machine, FakePeer]]:
    """A node that reads the log of a member who says what a test wants."""
    async with fake_peer(FakePeer(secret=SECRET)) as peer, member(tmp_path / "n", registry, peer) as node:
        yield node, peer


@asynccontextmanager
async def member(folder: Path, registry: FakeRegistry, *joins: Machine | FakePeer) -> AsyncIterator[Machine]:
    urls = tuple(str(one.url) if isinstance(one, FakePeer) else one.mesh for one in joins)
    async with machine(folder, registry, secret=SECRET, joins=urls) as node:
        yield node


async def three(stack: AsyncExitStack, folder: Path, registry: FakeRegistry) -> tuple[Machine, Machine, Machine]:
    """Three members that all see each other."""
    a = await stack.enter_async_context(member(folder / "a", registry))
    b = await stack.enter_async_context(member(folder / "b", registry, a))
    c = await stack.enter_async_context(member(folder / "c", registry, a, b))
    await until(lambda: all(sum(peer.member for peer in node.cluster.peers()) == 2 for node in (a, b, c)))
    return a, b, c


async def records(node: Machine) -> dict[tuple[str, Kind, str], Record]:
    changes = await node.store.changes(0, Audience.MEMBERS, 100_000)
    found = [entry.record for entry in changes.entries if isinstance(entry, RecordChange)]
    return {(each.repository, each.kind, each.name): each for each in found}


async def settled(*nodes: Machine, limit_s: float = 10.0) -> dict[tuple[str, Kind, str], Record]:
    """Wait until all have the same records; those."""
    async with asyncio.timeout(limit_s):
        while True:
            first, *rest = [await records(node) for node in nodes]
            if all(each == first for each in rest):
                return first
            await asyncio.sleep(0.02)


async def meaning(node: Machine, tag: str) -> Digest | None:
    content = await node.store.owned.tag(APP, Tag(tag))
    return None if content is None else content.digest


async def until_tag(node: Machine, tag: str, digest: Digest | None, limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while await meaning(node, tag) != digest:
            await asyncio.sleep(0.01)


async def seen(node: Machine) -> tuple[list[str], dict[str, bytes], bytes]:
    """What clients of a node see of the repository: its tags, what each means, and what refers to the empty blob."""
    pusher = Pusher(node)
    tags = json.loads((await pusher.send("GET", "tags/list")).data)["tags"]
    meant = {tag: (await pusher.send("GET", f"manifests/{tag}")).data for tag in tags}
    return tags, meant, (await pusher.send("GET", f"referrers/{Digest.of(EMPTY)}")).data


async def test_a_deletion_is_seen_by_every_member(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        await Pusher(a).image(image, "v1")
        assert (await Pusher(a).manifest("v2", image.manifest.data)).status == 201
        await until_tag(b, "v2", image.manifest.digest)
        for _ in range(2):
            assert (await Pusher(b).send("GET", "manifests/v1")).data == image.manifest.data
        assert (await Pusher(b).send("DELETE", "manifests/v1")).status == 202
        await until_tag(a, "v1", None)
        assert (await Pusher(a).send("GET", "manifests/v1")).status == 404
        assert (await Pusher(a).send("DELETE", f"manifests/{image.manifest.digest}")).status == 202
        await until_tag(b, "v2", None)
        for selector in ("v1", "v2", image.manifest.digest):
            assert (await Pusher(b).send("GET", f"manifests/{selector}")).status == 404
        assert (await Pusher(a).send("DELETE", f"blobs/{image.layers[0].digest}")).status == 202
        await settled(a, b)
        assert (await Pusher(b).send("GET", f"blobs/{image.layers[0].digest}")).status == 404


async def test_a_blob_is_not_deleted_where_only_another_member_has_the_manifest_that_names_it(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        await Pusher(a).image(image, "v1")
        await until_tag(b, "v1", image.manifest.digest)
        await until(lambda: b.cluster.holders(image.manifest.digest))
        answer = await Pusher(b).send("DELETE", f"blobs/{image.layers[0].digest}")
        assert (answer.status, str(image.manifest.digest).encode() in answer.data) == (405, True)
        assert (await Pusher(a).send("GET", "manifests/v1")).data == image.manifest.data


async def test_a_member_that_was_away_catches_up_and_does_not_bring_back_what_was_deleted(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, other: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a:
        async with member(tmp_path / "b", registry, a) as b:
            await Pusher(a).image(image, "gone")
            assert (await Pusher(a).manifest("moved", image.manifest.data)).status == 201
            await until_tag(b, "moved", image.manifest.digest)
            await settled(a, b)
        await Pusher(a).image(other, "moved")
        assert (await Pusher(a).send("DELETE", "manifests/gone")).status == 202
        async with member(tmp_path / "b", registry, a) as b:
            await until_tag(b, "moved", other.manifest.digest)
            await settled(a, b)
            assert await meaning(a, "gone") is await meaning(b, "gone") is None
            assert await seen(a) == await seen(b)


async def test_what_reached_a_second_node_reaches_a_third_when_the_first_is_gone(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        async with member(tmp_path / "a", registry) as a:
            b = await stack.enter_async_context(member(tmp_path / "b", registry, a))
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
            for blob in image.blobs:
                assert (await Pusher(b).send("GET", f"blobs/{blob.digest}")).data == blob.data
                await b.landed(blob.digest)
            assert (await Pusher(b).send("GET", "manifests/v1")).status == 200
        c = await stack.enter_async_context(member(tmp_path / "c", registry, b))
        await until_tag(c, "v1", image.manifest.digest)
        await until(lambda: all(c.cluster.holders(one.digest) for one in (image.manifest, *image.blobs)))
        assert (await Pusher(c).send("GET", "manifests/v1")).data == image.manifest.data
        for blob in image.blobs:
            assert (await Pusher(c).send("GET", f"blobs/{blob.digest}")).data == blob.data


async def test_a_manifest_whose_only_holder_is_away_is_an_outage(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        async with member(tmp_path / "a", registry) as a:
            b = await stack.enter_async_context(member(tmp_path / "b", registry, a))
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
        await until(lambda: not b.cluster.holders(image.manifest.digest))
        assert (await Pusher(b).send("GET", "manifests/v1")).status == 503
        assert (await Pusher(b).send("GET", f"blobs/{image.layers[0].digest}")).status == 503
        assert json.loads((await Pusher(b).send("GET", "tags/list")).data)["tags"] == ["v1"]


def referring(subject: Digest, note: str) -> bytes:
    named = {"mediaType": "application/x", "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)}
    about = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 5}
    plain = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named, "layers": [], "subject": about}
    return json.dumps({**plain, "annotations": {"note": note}}).encode()


async def test_after_a_partition_tags_digests_and_referrers_are_the_same_on_every_node(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage, other: FakeImage
) -> None:
    async with AsyncExitStack() as stack:
        a, b, c = await three(stack, tmp_path, registry)
        await Pusher(a).image(image, "base")
        await Pusher(a).blob(EMPTY)
        await until_tag(b, "base", image.manifest.digest)
        await settled(a, b, c)
    for name, mine in zip("abc", (image, other, image), strict=True):
        async with member(tmp_path / name, registry) as alone:  # each goes its own way
            pusher = Pusher(alone)
            for data in (EMPTY, *(blob.data for blob in mine.blobs)):
                await pusher.blob(data)
            assert (await pusher.manifest("same", mine.manifest.data)).status == 201
            assert (await pusher.manifest(f"of-{name}", mine.manifest.data)).status == 201
            data = referring(Digest.of(EMPTY), name)
            assert (await pusher.manifest(Digest.of(data), data)).status == 201
            if name == "b":
                assert (await pusher.send("DELETE", "manifests/base")).status == 202
    async with AsyncExitStack() as stack:
        a, b, c = await three(stack, tmp_path, registry)
        await settled(a, b, c)
        assert await meaning(c, "same") == image.manifest.digest  # written last
        async with asyncio.timeout(10):
            while not (await seen(a) == await seen(b) == await seen(c)):
                await asyncio.sleep(0.05)  # the referrers' annotations come from whoever has their bytes
        tags, _, found = await seen(a)
        assert tags == ["of-a", "of-b", "of-c", "same"]
        assert len(json.loads(found)["manifests"]) == 3


async def test_a_node_that_lost_its_catalog_gets_own_repositories_back_from_another(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with member(tmp_path / "a", registry) as a:
        async with member(tmp_path / "b", registry, a) as b:
            await Pusher(a).image(image, "v1")
            await until_tag(b, "v1", image.manifest.digest)
            await settled(a, b)
        for path in (tmp_path / "b").glob("catalog.db*"):
            path.unlink()
        async with member(tmp_path / "b", registry, a) as b:
            await until_tag(b, "v1", image.manifest.digest)
            await settled(a, b)


def line(seq: int, record: Record, **wrong: object) -> list[object]:
    content = record.content
    named: dict[str, object] = {
        "seq": seq,
        "repository": record.repository,
        "kind": record.kind.value,
        "name": record.name,
        "digest": str(content.digest) if content else "",
        "size": content.size if content else 0,
        "media_type": content.media_type if content else "",
        "artifact_type": content.artifact_type if content else "",
        "subject": "",
        "stamp": record.stamp,
        "origin": record.origin,
        "base": record.base,
    }
    assert wrong.keys() <= named.keys()
    return ["record", *{**named, **wrong}.values()]


def tag(name: str, digest: Digest, stamp: int) -> Record:
    return Record(APP, Kind.TAG, name, Content(digest, 5, OCI_MANIFEST), stamp, ORIGIN)


def now() -> int:
    return stamp_at(time.time())


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository": "../x"},
        {"repository": ""},
        {"repository": "A"},
        {"kind": "secret"},
        {"name": "-x"},
        {"name": "x" * 200},
        {"name": 5},
        {"digest": "sha256:zz"},
        {"digest": None},
        {"size": -1},
        {"size": 1 << 60},
        {"media_type": "x" * 256},
        {"media_type": "\u00fc"},
        {"artifact_type": "a\nb"},
        {"subject": "what"},
        {"stamp": -1},
        {"origin": "me"},
        {"base": "0"},
        {"kind": "manifest"},
    ],
    ids=str,
)
async def test_a_malformed_record_ends_the_belief_in_its_sender_and_writes_nothing(
    beside: tuple[Machine, FakePeer], image: FakeImage, wrong: dict[str, object]
) -> None:
    node, peer = beside
    await Pusher(node).image(image, "v1")
    before = await records(node)
    peer.say(line(1, tag("good", image.manifest.digest, now())))
    peer.say(line(2, tag("evil", image.manifest.digest, now()), **wrong))
    await until(lambda: any(each.set_aside for each in node.cluster.peers()))
    assert {key: each for key, each in (await records(node)).items() if key[2] != "good"} == before
    assert (await Pusher(node).send("GET", "manifests/v1")).data == image.manifest.data


async def test_a_record_of_the_far_future_changes_nothing(
    beside: tuple[Machine, FakePeer], image: FakeImage, other: FakeImage
) -> None:
    node, peer = beside
    await Pusher(node).image(image, "v1")
    present = now()
    for ahead_s in (70, 3600, 10**9):
        peer.say(line(len(peer.lines) + 1, tag("v1", other.manifest.digest, stamp_at(time.time() + ahead_s))))
    peer.say(line(len(peer.lines) + 1, tag("v1", other.manifest.digest, (1 << 62) - 1)))
    peer.say(line(len(peer.lines) + 1, tag("done", image.manifest.digest, present)))
    await until_tag(node, "done", image.manifest.digest)
    assert await meaning(node, "v1") == image.manifest.digest
    (note,) = [each.note for each in node.cluster.peers()]
    assert note is not None and "a clock is ahead" in note
    await Pusher(node).image(other, "v1")
    assert await meaning(node, "v1") == other.manifest.digest


async def test_many_records_of_a_member_leave_the_node_at_work(
    beside: tuple[Machine, FakePeer], image: FakeImage
) -> None:
    node, peer = beside
    await Pusher(node).image(image, "v1")
    present = now()
    total, size = 40_000, 2000
    pages = iter(range(0, total, size))

    def page() -> bytes:
        at = next(pages, total)
        lines = [
            line(n + 1, Record(APP, Kind.BLOB, str(d := Digest.of(b"%d" % n)), Content(d, 1), present, ORIGIN))
            for n in range(at, min(at + size, total))
        ]
        upto = min(at + size, total)
        packed = {"v": 1, "log": peer.log_id, "upto": upto, "more": upto < total, "lines": lines}
        body: bytes = msgpack.packb(packed)
        return body

    peer.faults = replace(peer.faults, log=page)
    peer.lines = [[] for _ in range(total - 1)]
    peer.say([])
    last = Digest.of(b"%d" % (total - 1))
    async with asyncio.timeout(60):
        while await node.store.owned.blob(APP, last) is None:
            assert (await Pusher(node).send("GET", "manifests/v1")).data == image.manifest.data
            await asyncio.sleep(0.05)
    assert len(node.store.owned._records._answers) <= 8192


async def test_what_a_member_made_up_is_passed_on_in_pages_that_readers_take(
    tmp_path: Path, registry: FakeRegistry, beside: tuple[Machine, FakePeer]
) -> None:
    node, peer = beside
    present = now()
    for number in range(1500):
        digest = Digest.of(b"%d" % number)
        content = Content(digest, 1, "m" * 255, "a" * 255, None)
        record = Record("r" * 240, Kind.MANIFEST, str(digest), content, present, ORIGIN)
        peer.say(line(number + 1, record, subject=f"sha512:{'0' * 128}"))
    async with member(tmp_path / "reader", registry, node) as reader:
        last = Digest.of(b"1499")
        async with asyncio.timeout(20):
            while await reader.store.owned.manifest("r" * 240, last) is None:
                await asyncio.sleep(0.05)


async def test_a_stranger_can_tell_nothing_of_own_repositories(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    async with fake_peer(FakePeer()) as peer, machine(tmp_path / "n", registry, joins=(str(peer.url),)) as node:
        await Pusher(node).image(image, "v1")
        before = await records(node)
        peer.say(line(1, tag("v1", Digest.of(b"evil"), now())))
        peer.hold(b"public bytes")
        await until(lambda: node.cluster.holders(Digest.of(b"public bytes")))
        assert await records(node) == before


async def test_a_members_word_opens_nothing_that_is_here_and_hidden(
    beside: tuple[Machine, FakePeer], image: FakeImage
) -> None:
    node, peer = beside
    layer, secrets = image.layers[0], Repository("corp.test", "team/secret")
    for blob in (image.manifest, *image.blobs):
        await node.store.put(blob.digest, blob.data, Proof(Visibility.PRIVATE), secrets)
    present = now()
    for record in (
        *(Record(APP, Kind.BLOB, str(o.digest), Content(o.digest, o.size), present, ORIGIN) for o in image.blobs),
        Record(APP, Kind.MANIFEST, str(image.manifest.digest), manifest_of(image), present, ORIGIN),
        tag("v1", image.manifest.digest, present),
    ):
        peer.say(line(len(peer.lines) + 1, record))
    await until_tag(node, "v1", image.manifest.digest)
    mounting = Pusher(node, "team/mine")
    await mounting.send("POST", f"blobs/uploads/?mount={layer.digest}&from={APP}")
    for pusher, path in (
        (Pusher(node), "manifests/v1"),
        (Pusher(node), f"manifests/{image.manifest.digest}"),
        (Pusher(node), f"blobs/{layer.digest}"),
        (Pusher(node), f"blobs/{image.manifest.digest}"),
        (mounting, f"blobs/{layer.digest}"),
    ):
        assert (await pusher.send("GET", path)).status in (404, 503), path
    peer.hold(layer.data, visibility="members")  # who has the bytes may let others have them
    await until(lambda: node.cluster.holders(layer.digest))
    assert (await Pusher(node).send("GET", f"blobs/{layer.digest}")).data == layer.data


def manifest_of(image: FakeImage) -> Content:
    return Content(image.manifest.digest, image.manifest.size, image.manifest.media_type)


async def test_after_201_a_kill_loses_nothing(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a:
        await Pusher(a).image(image, "v1")
        where = await Pusher(a).begin()
        assert (await Pusher(a).send("PATCH", where, b"begun")).status == 202
        copying = asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "killed")
        await copying  # what a kill would leave now
    async with member(tmp_path / "killed", registry) as again:
        assert (await Pusher(again).send("GET", "manifests/v1")).data == image.manifest.data
        for blob in image.blobs:
            assert (await Pusher(again).send("GET", f"blobs/{blob.digest}")).data == blob.data
        assert (await Pusher(again).send("GET", where)).headers["Range"] == "0-4"


async def test_many_clients_push_and_pull_at_once(tmp_path: Path, registry: FakeRegistry, image: FakeImage) -> None:
    async with member(tmp_path / "a", registry) as a, member(tmp_path / "b", registry, a) as b:
        images = [make_image(f"many/{number % 4}", (900_000, 1000)) for number in range(16)]  # four of each

        async def one(number: int, mine: FakeImage) -> None:
            at, elsewhere = (a, b) if number % 2 else (b, a)
            await Pusher(at).image(mine, f"t{number}")
            await until_tag(elsewhere, f"t{number}", mine.manifest.digest, 30)
            for blob in (mine.manifest, *mine.blobs):
                kind = "manifests" if blob is mine.manifest else "blobs"
                got = await Pusher(elsewhere).send("GET", f"{kind}/{blob.digest}")
                assert (got.status, got.data) == (200, blob.data)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number, mine in enumerate(images):
                group.create_task(one(number, mine))
        assert len(json.loads((await Pusher(a).send("GET", "tags/list")).data)["tags"]) == 16
        for node in (a, b):
            assert not any((node.store.folder / "uploads").iterdir())
            assert await node.store.owned.conflicts() == ()


async def test_a_member_that_names_what_nobody_has_is_an_outage_and_no_defect(
    beside: tuple[Machine, FakePeer],
) -> None:
    node, peer = beside
    digest, present = Digest.of(b"never pushed"), now()
    manifest = Record(APP, Kind.MANIFEST, str(digest), Content(digest, 5, OCI_MANIFEST), present, ORIGIN)
    blob = Record(APP, Kind.BLOB, str(digest), Content(digest, 5), present, ORIGIN)
    for seq, record in enumerate((manifest, blob, tag("v1", digest, present)), 1):
        peer.say(line(seq, record))
    await until_tag(node, "v1", digest)
    for path in ("manifests/v1", f"manifests/{digest}", f"blobs/{digest}"):
        assert (await Pusher(node).send("GET", path)).status == 503, path
    assert (await Pusher(node).send("GET", f"referrers/{digest}")).status == 200


async def test_members_that_stall_keep_no_list_of_referrers_waiting(tmp_path: Path, registry: FakeRegistry) -> None:
    subject, waits = Digest.of(EMPTY), replace(QUICK_WAITS, patience_s=1.0)
    async with (
        fake_peer(FakePeer(secret=SECRET)) as peer,
        machine(tmp_path / "n", registry, secret=SECRET, joins=(str(peer.url),), waits=waits) as node,
    ):
        for number in range(12):
            data = referring(subject, str(number))
            digest = Digest.of(data)
            peer.hold(data, visibility="members")
            content = Content(digest, len(data), OCI_MANIFEST)
            record = Record(APP, Kind.MANIFEST, str(digest), content, now(), ORIGIN)
            peer.say(line(len(peer.lines) + 1, record, subject=str(subject)))
        await until(lambda: node.cluster.holders(digest))
        peer.faults = replace(peer.faults, hang=frozenset({"/ipfs/"}))
        async with asyncio.timeout(6):
            answer = await Pusher(node).send("GET", f"referrers/{subject}")
        assert len(json.loads(answer.data)["manifests"]) == 12


async def test_a_member_that_says_a_manifest_is_what_it_is_not_is_an_outage_and_no_defect(
    beside: tuple[Machine, FakePeer], image: FakeImage
) -> None:
    node, peer = beside
    data = b"no manifest at all"
    digest, present = Digest.of(data), now()
    peer.hold(data, visibility="members")
    for record in (
        Record(APP, Kind.MANIFEST, str(digest), Content(digest, 5, "text/html"), present, ORIGIN),
        tag("v1", digest, present),
    ):
        peer.say(line(len(peer.lines) + 1, record))
    await until_tag(node, "v1", digest)
    await until(lambda: node.cluster.holders(digest))
    assert (await Pusher(node).send("GET", "manifests/v1")).status == 503
    assert not any(code == "500" for _, _, code in node.metrics._server)


async def test_two_who_want_the_same_blob_to_stay_bring_it_once(beside: tuple[Machine, FakePeer]) -> None:
    node, peer = beside
    data = bytes(50_000)
    peer.hold(data, visibility="members")
    await until(lambda: node.cluster.holders(Digest.of(data)))
    bringing = node.registry.bringing
    async with asyncio.timeout(10):
        await asyncio.gather(*(bringing.bring(Repository(OWN, name), [Digest.of(data)]) for name in (APP, "team/b")))
    assert peer.bodies == 1
    assert await node.store.load(Digest.of(data)) == data


@pytest.mark.parametrize("in_index", [False, True])
async def test_what_is_here_for_another_repository_alone_makes_no_promise(
    beside: tuple[Machine, FakePeer], image: FakeImage, in_index: bool
) -> None:
    node, peer = beside
    layer, present = image.layers[0], now()
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.manifest.described]}).encode()
    top = Content(Digest.of(index), len(index), OCI_INDEX) if in_index else manifest_of(image)
    hidden = image.manifest if in_index else layer
    await node.store.put(hidden.digest, hidden.data, Proof(Visibility.PRIVATE), Repository("corp.test", "team/secret"))
    for blob in (image.manifest, *image.blobs):
        if blob is not hidden:
            peer.hold(blob.data, visibility="members")
    peer.hold(index, visibility="members")
    for record in (
        *(Record(APP, Kind.BLOB, str(o.digest), Content(o.digest, o.size), present, ORIGIN) for o in image.blobs),
        Record(APP, Kind.MANIFEST, str(image.manifest.digest), manifest_of(image), present, ORIGIN),
        Record(APP, Kind.MANIFEST, str(top.digest), top, present, ORIGIN),
        tag("v1", top.digest, present),
    ):
        peer.say(line(len(peer.lines) + 1, record))
    await until_tag(node, "v1", top.digest)
    await until(lambda: node.cluster.holders(Digest.of(index)))
    assert (await Pusher(node).send("GET", "manifests/v1")).status == 503
    peer.hold(hidden.data, visibility="members")
    await until(lambda: node.cluster.holders(hidden.digest))
    assert (await Pusher(node).send("GET", "manifests/v1")).status == 200
    assert (await Pusher(node).send("GET", f"blobs/{layer.digest}")).data == layer.data


async def test_what_is_here_for_a_mirrored_repository_is_kept_for_the_own_one_that_a_push_names_it_in(
    tmp_path: Path, registry: FakeRegistry, image: FakeImage
) -> None:
    """A push rests on no other member's disk: not either once it is proved no more that anybody may read the bytes."""
    registry.push("library/app", image, "v1")
    waits = replace(QUICK_WAITS, proof_s=4.0)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(member(tmp_path / "a", registry))
        async with machine(tmp_path / "b", registry, secret=SECRET, joins=(a.mesh,), waits=waits) as b:
            assert (await b.manifest("v1", "library/app")).status == 200
            for blob in image.blobs:
                assert (await b.blob(blob.digest, "library/app")).data == blob.data
                await b.landed(blob.digest)
            await Pusher(a, APP).image(image, "v1")
            await until(lambda: b.store.owned.generation >= len(image.blobs) and b.cluster.peers())
            async with asyncio.timeout(10):
                while await b.store.owned.manifest(APP, image.manifest.digest) is None:
                    await asyncio.sleep(0.01)
            answer = await Pusher(b, APP).manifest("v2", image.manifest.data, image.manifest.media_type)
            assert answer.status == 201
            await stack.aclose()
            async with asyncio.timeout(10):
                for blob in image.blobs:
                    while (holding := await b.store.find(blob.digest)) and holding.visibility is Visibility.PUBLIC:
                        await asyncio.sleep(0.05)
            for blob in image.blobs:
                assert (await b.get(f"/v2/{APP}/blobs/{blob.digest}")).data == blob.data
