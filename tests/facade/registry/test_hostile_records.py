"""Own repositories among members of whom one means ill, or tells of what nobody has."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from node.digest import Digest
from node.manifest import OCI_INDEX, OCI_MANIFEST
from node.records import Content, Kind, Record, stamp_at
from node.reference import Repository
from node.visibility import Proof, Visibility
from tests.facade.machine import QUICK_WAITS, Machine, machine, until
from tests.facade.members import APP, EMPTY, SECRET, meaning, member, records, referring, until_tag
from tests.facade.pusher import Pusher
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.registry import FakeRegistry

ORIGIN = "9" * 32


@pytest.fixture
def image() -> FakeImage:
    return make_image("replicated", (400_000,))


@pytest.fixture
def other() -> FakeImage:
    return make_image("another", (1000,))


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
