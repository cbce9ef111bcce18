"""Who proves what to whom."""

from dataclasses import replace

import pytest

from cluster.auth import (
    Call,
    Keys,
    Proven,
    Replays,
    claimed_sender,
    sign_answer,
    sign_request,
    verify_answer,
    verify_request,
)
from node.errors import DeniedError

A, B, E = "a" * 32, "b" * 32, "e" * 32
NONCE = "0123456789abcdef" * 2
KEYS = Keys.of(b"the secret of the cluster")
CALL = Call(A, B, "GET", "/mesh/v1/log?id=x&since=0&wait=20", b"")
NOW = 1_800_000_000.0


def header(call: Call = CALL, keys: Keys = KEYS, now: float = NOW) -> str:
    return sign_request(keys, call, now, NONCE)


def test_a_request_proves_its_sender() -> None:
    proven = verify_request(KEYS, header(), CALL, NOW, Replays())
    assert proven == Proven(A, NONCE)
    assert claimed_sender(header()) == A


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call(A, E, CALL.method, CALL.target), "another node"),
        (Call(E, B, CALL.method, CALL.target), "MAC is wrong"),
        (Call(A, B, "POST", CALL.target), "MAC is wrong"),
        (Call(A, B, CALL.method, CALL.target.replace("since=0", "since=1")), "MAC is wrong"),
        (Call(A, B, CALL.method, "/mesh/v1/log"), "MAC is wrong"),
        (Call(A, B, CALL.method, CALL.target, b"body"), "MAC is wrong"),
    ],
)
def test_a_proof_is_good_for_nothing_but_its_own_request(call: Call, reason: str) -> None:
    with pytest.raises(DeniedError, match=reason):
        verify_request(KEYS, header(), call, NOW, Replays())


@pytest.mark.parametrize("made_for", ["", "a" * 64, "b" * 64])
@pytest.mark.parametrize("shown", ["", "a" * 64, "b" * 64])
def test_a_proof_is_good_for_nothing_but_the_certificate_that_its_sender_was_shown(made_for: str, shown: str) -> None:
    signed, call = header(replace(CALL, channel=made_for)), replace(CALL, channel=shown)
    if made_for == shown:
        assert verify_request(KEYS, signed, call, NOW, Replays()).sender == A
        return
    with pytest.raises(DeniedError, match="MAC is wrong") as refused:
        verify_request(KEYS, signed, call, NOW, Replays())
    assert ("stand between" in str(refused.value)) == bool(shown)


@pytest.mark.parametrize(
    ("skew", "good"), [(0, True), (59, True), (-59, True), (61, False), (-61, False), (300, False)]
)
def test_old_and_future_requests_are_refused_with_the_difference(skew: int, good: bool) -> None:
    if good:
        assert verify_request(KEYS, header(now=NOW + skew), CALL, NOW, Replays()).sender == A
        return
    with pytest.raises(DeniedError, match=rf"clocks differ by {abs(skew)} s, at most 60 s"):
        verify_request(KEYS, header(now=NOW + skew), CALL, NOW, Replays())


def test_another_secret_is_refused() -> None:
    with pytest.raises(DeniedError, match="is the secret the same on both nodes"):
        verify_request(KEYS, header(keys=Keys.of(b"another")), CALL, NOW, Replays())


def test_a_request_seen_before_is_refused_as_long_as_its_time_would_be_accepted() -> None:
    seen = Replays()
    ahead = header(now=NOW + 60)
    verify_request(KEYS, ahead, CALL, NOW, seen)
    for later in (0, 1, 60, 119, 120):
        with pytest.raises(DeniedError, match="seen before"):
            verify_request(KEYS, ahead, CALL, NOW + later, seen)


def test_a_refused_request_leaves_nothing_in_memory() -> None:
    seen = Replays()
    forged = header(keys=Keys.of(b"guess"))
    with pytest.raises(DeniedError):
        verify_request(KEYS, forged, CALL, NOW, seen)
    assert seen.first(A, NONCE, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Basic YTpi",
        "Layermesh-Mac",
        "Layermesh-Mac v=1",
        "Layermesh-Mac " + "x" * 600,
        header() + ",mac=" + "0" * 64,
        header().replace("v=1", "v=2"),
        header().replace(f"node={A}", "node=A"),
        header().replace("time=", "time=-"),
        header().replace("nonce=", "nonce=\n"),
        header() + ",more=1",
    ],
)
def test_malformed_proofs_are_refused(text: str) -> None:
    with pytest.raises(DeniedError, match=r"Layermesh-Mac|Authorization"):
        verify_request(KEYS, text, CALL, NOW, Replays())


def test_an_answer_is_bound_to_its_request_status_and_body() -> None:
    asked = Proven(A, NONCE)
    proof = sign_answer(KEYS, B, asked, 200, b"body")
    verify_answer(KEYS, proof, B, asked, 200, b"body")
    wrong: list[tuple[str | None, str, Proven, int, bytes]] = [
        (proof, E, asked, 200, b"body"),
        (proof, B, Proven(E, NONCE), 200, b"body"),
        (proof, B, Proven(A, "f" * 32), 200, b"body"),
        (proof, B, asked, 404, b"body"),
        (proof, B, asked, 200, b"other"),
        (None, B, asked, 200, b"body"),
        ("v=1", B, asked, 200, b"body"),
    ]
    for given, answerer, request, status, body in wrong:
        with pytest.raises(DeniedError):
            verify_answer(KEYS, given, answerer, request, status, body)


def test_a_requests_mac_is_never_good_as_an_answers() -> None:
    assert KEYS.request != KEYS.answer
