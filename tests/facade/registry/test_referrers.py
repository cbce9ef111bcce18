"""Listing referrers (OCI distribution specification 1.1, "Listing Referrers" and "Enabling the Referrers API")."""

import json
import re
from typing import Any

import pytest

from node.digest import Algorithm, Digest
from node.manifest import OCI_INDEX, OCI_MANIFEST
from tests.facade.machine import Machine
from tests.facade.pusher import Pusher

EMPTY = b"{}"
SUBJECT = Digest.of(b"a subject that nobody ever pushed")
SBOM, SIGNATURE = "application/vnd.example.sbom.v1", "application/vnd.example.signature.v1"


@pytest.fixture
async def pusher(node: Machine) -> Pusher:
    one = Pusher(node)
    await one.blob(EMPTY)
    return one


def document(subject: Digest | None = SUBJECT, config_type: str = "application/x", **more: Any) -> bytes:
    plain: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config_type, "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)},
        "layers": [],
    }
    if subject is not None:
        plain["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 33}
    return json.dumps({**plain, **more}).encode()


def index(*named: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named, **more}).encode()


def listed(data: bytes, media_type: str = OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


async def refer(pusher: Pusher, data: bytes, media_type: str = OCI_MANIFEST, subject: Digest = SUBJECT) -> None:
    answer = await pusher.manifest(Digest.of(data), data, media_type)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, str(subject))


async def referrers(pusher: Pusher, subject: Digest = SUBJECT, query: str = "") -> list[dict[str, Any]]:
    answer = await pusher.send("GET", f"referrers/{subject}{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
    assert ("OCI-Filters-Applied" in answer.headers) is ("artifactType" in query)
    found = json.loads(answer.data)
    assert (found["schemaVersion"], found["mediaType"]) == (2, OCI_INDEX)
    return sorted(found["manifests"], key=lambda each: str(each["digest"]))


def ordered(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda each: str(each["digest"]))


@pytest.mark.parametrize("name", ["team/app", "team/never-heard-of"])
async def test_what_nothing_refers_to_has_an_empty_list_wherever_it_is(pusher: Pusher, name: str) -> None:
    assert await referrers(Pusher(pusher.machine, name)) == []
    assert await referrers(Pusher(pusher.machine, name), query=f"?artifactType={SBOM}") == []
    assert (await pusher.send("HEAD", f"referrers/{SUBJECT}")).status == 200


@pytest.mark.parametrize("digest", ["latest", "sha256:abc", f"sha256:{'A' * 64}", "md5:00", "x" * 3000])
async def test_a_malformed_digest_is_refused(pusher: Pusher, digest: str) -> None:
    answer = await pusher.send("GET", f"referrers/{digest}")
    assert (answer.status, b"DIGEST_INVALID" in answer.data) == (400, True)


async def test_each_referrer_is_listed_with_its_type_and_annotations(pusher: Pusher) -> None:
    notes = {"org.example.note": "é", "empty": ""}
    typed = document(artifactType=SBOM, annotations=notes)
    by_config = document(config_type=SIGNATURE)
    empty_type = document(artifactType="", config_type=SIGNATURE, annotations={"n": "2"})
    bare_index = index(subject=listed(b"", digest=str(SUBJECT)))
    typed_index = index(subject=listed(b"", digest=str(SUBJECT)), artifactType=SBOM)
    for data in (typed, by_config, empty_type):
        await refer(pusher, data)
    for data in (bare_index, typed_index):
        await refer(pusher, data, OCI_INDEX)
    await pusher.manifest("unrelated", document(None))
    await pusher.manifest("another", document(Digest.of(b"another subject")))
    assert await referrers(pusher) == ordered(
        listed(typed, artifactType=SBOM, annotations=notes),
        listed(by_config, artifactType=SIGNATURE),
        listed(empty_type, artifactType=SIGNATURE, annotations={"n": "2"}),
        listed(bare_index, OCI_INDEX),
        listed(typed_index, OCI_INDEX, artifactType=SBOM),
    )


async def test_a_filter_leaves_the_referrers_of_one_type(pusher: Pusher) -> None:
    sbom, signature = document(artifactType=SBOM), document(config_type=SIGNATURE)
    for data in (sbom, signature):
        await refer(pusher, data)
    for wanted, data in ((SBOM, sbom), (SIGNATURE, signature)):
        assert await referrers(pusher, query=f"?artifactType={wanted}") == [listed(data, artifactType=wanted)]
    assert await referrers(pusher, query="?artifactType=application/none") == []


async def test_a_subject_may_come_before_or_after_and_be_of_sha512(pusher: Pusher) -> None:
    subject = document(None, annotations={"I am": "the subject"})
    for algorithm in Algorithm:
        digest = Digest.of(subject, algorithm)
        before, after = (document(digest, annotations={"n": n}) for n in "12")
        await refer(pusher, before, subject=digest)
        assert (await pusher.manifest(digest, subject)).status == 201
        await refer(pusher, after, subject=digest)
        found = [each["digest"] for each in await referrers(pusher, digest)]
        assert found == sorted(str(Digest.of(each)) for each in (before, after))


async def test_referrers_are_those_of_one_repository(pusher: Pusher) -> None:
    await refer(pusher, document())
    assert await referrers(Pusher(pusher.machine, "team/other")) == []


async def test_a_deleted_referrer_is_listed_no_longer_and_a_deleted_subject_changes_nothing(pusher: Pusher) -> None:
    subject = document(None)
    assert (await pusher.manifest("subject", subject)).status == 201
    one, two = (document(Digest.of(subject), annotations={"n": n}) for n in "12")
    for data in (one, two):
        await refer(pusher, data, subject=Digest.of(subject))
    assert (await pusher.send("DELETE", f"manifests/{Digest.of(one)}")).status == 202
    assert (await pusher.send("DELETE", f"manifests/{Digest.of(subject)}")).status == 202
    assert [each["digest"] for each in await referrers(pusher, Digest.of(subject))] == [str(Digest.of(two))]


async def test_a_fallback_tag_adds_what_refers_to_the_subject_and_nothing_else(pusher: Pusher) -> None:
    mine, strange = document(artifactType=SBOM), document(None)
    await refer(pusher, mine)
    assert (await pusher.manifest("strange", strange)).status == 201
    fallback = index(listed(mine, artifactType="application/a.lie"), listed(strange))
    tag = f"sha256-{SUBJECT.hex}"
    assert (await pusher.manifest(tag, fallback, OCI_INDEX)).status == 201
    assert await referrers(pusher) == [listed(mine, artifactType=SBOM)]
    assert (await pusher.send("GET", f"manifests/{tag}")).data == fallback
    assert (await pusher.manifest(tag, document(None, annotations={"no": "index"}))).status == 201
    assert await referrers(pusher) == [listed(mine, artifactType=SBOM)]


async def test_annotations_that_are_none_are_left_out_and_the_referrer_is_listed(pusher: Pusher) -> None:
    for notes in (None, {}, {"a": 5}, ["x"], "x"):
        await refer(pusher, document(annotations=notes))
    assert all("annotations" not in each for each in await referrers(pusher))
    assert len(await referrers(pusher)) == 5


async def test_a_referrer_whose_bytes_are_gone_is_listed_all_the_same(pusher: Pusher) -> None:
    data = document(artifactType=SBOM, annotations={"n": "1"})
    await refer(pusher, data)
    await pusher.machine.store.drop(Digest.of(data))
    assert await referrers(pusher) == [listed(data, artifactType=SBOM)]


@pytest.mark.parametrize("wanted", [None, SBOM])
async def test_a_list_too_long_for_one_answer_comes_in_several_of_bounded_size(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.setattr("facade.registry.own.MOST_REFERRERS_BYTES", 2000)
    texts = ["x" * size for size in (10, 300, 700, 2500, 20, 1500, 30)]  # one alone is too long
    pushed = [document(artifactType=kind, annotations={"n": text}) for text in texts for kind in (SBOM, SIGNATURE)]
    for data in pushed:
        await refer(pusher, data)
    path = f"/v2/{pusher.name}/referrers/{SUBJECT}" + ("" if wanted is None else f"?artifactType={wanted}")
    found: list[dict[str, Any]] = []
    while path:
        answer = await pusher.send("GET", path)
        page = json.loads(answer.data)["manifests"]
        assert len(answer.data) < 2200 or len(page) == 1
        assert all(len(each["annotations"]["n"]) for each in page)
        assert ("OCI-Filters-Applied" in answer.headers) is (wanted is not None)
        found += page
        link = re.fullmatch(r'<(/v2/.+)>; rel="next"', answer.headers.get("Link", ""))
        path = link[1] if link else ""
    mine = [str(Digest.of(data)) for data in pushed if wanted is None or wanted.encode() in data]
    assert [each["digest"] for each in found] == sorted(mine)
