"""How members prove to each other that they know the cluster secret. Pure: the clock and nonces are passed in.

A request carries `Authorization: Layermesh-Mac v=1,node=..,to=..,time=..,nonce=..,mac=..`: an HMAC-SHA256 over sender,
receiver, method, path with query, time, nonce and the body's sha256; under TLS also over the fingerprint of the
certificate that the sender was shown, so that nobody else can pass it on. Its answer, unless it is bytes of a blob,
carries `Layermesh-Mac: v=1,mac=..` over both nodes, the request's nonce, the status and the body's sha256. The two use
different keys derived from the secret, so neither can stand for the other. The receiver refuses what is not meant for
it, what is older or newer than 60 s, and a nonce it has seen.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Self

from node.errors import DeniedError

WINDOW_S: Final = 60
SCHEME: Final = "Layermesh-Mac"
ANSWER_HEADER: Final = "Layermesh-Mac"
MAX_HEADER: Final = 512
NONCE: Final = re.compile("[0-9a-f]{32}")
_FIELD: Final = {
    "v": re.compile("[0-9]{1,4}"),
    "node": re.compile("[0-9a-f]{32}"),
    "to": re.compile("[0-9a-f]{32}"),
    "time": re.compile("[0-9]{1,12}"),
    "nonce": NONCE,
    "mac": re.compile("[0-9a-f]{64}"),
}
_REQUEST: Final = ("v", "node", "to", "time", "nonce", "mac")
_ANSWER: Final = ("v", "mac")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a cluster, one for each direction."""

    request: bytes
    answer: bytes

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """Derive the keys from the cluster secret."""
        request, answer = (hmac.digest(secret, b"layermesh %s v1" % use, "sha256") for use in (b"request", b"answer"))
        return cls(request, answer)


@dataclass(frozen=True, slots=True)
class Call:
    """What a request's proof speaks of; `target` is the path with its query exactly as it is on the wire.

    `channel`: the fingerprint of the certificate at the receiver's end of the connection; empty without TLS.
    """

    sender: str
    receiver: str
    method: str
    target: str
    body: bytes = b""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Proven:
    """Who sent a request, after its proof was verified; `nonce` binds the answer to it."""

    sender: str
    nonce: str


class Replays:
    """The nonces seen lately; at most those of verified requests, so strangers cannot fill it.

    Two generations of twice the window each: a nonce is remembered for longer than its time stamp is accepted.
    """

    def __init__(self) -> None:
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turned = 0.0

    def first(self, sender: str, nonce: str, now: float) -> bool:
        """Whether this nonce of this sender is new; it is not any more afterwards."""
        if abs(now - self._turned) > 2 * WINDOW_S + 1:
            self._old, self._new, self._turned = self._new, set(), now
        key = bytes.fromhex(sender + nonce)
        if key in self._new or key in self._old:
            return False
        self._new.add(key)
        return True


def sign_request(keys: Keys, call: Call, now: float, nonce: str) -> str:
    """The value of the `Authorization` header for a request."""
    stamp = str(int(now))
    mac = _request_mac(keys, call, stamp, nonce)
    return f"{SCHEME} v=1,node={call.sender},to={call.receiver},time={stamp},nonce={nonce},mac={mac}"


def claimed_sender(header: str) -> str:
    """The node a request says that it comes from.

    Raises:
        DeniedError: when the header is malformed.
    """
    return _parse(_without_scheme(header), _REQUEST)["node"]


def verify_request(keys: Keys, header: str, call: Call, now: float, seen: Replays) -> Proven:
    """Check a request's proof; `call.sender` is the claimed one, `call.receiver` this node.

    Raises:
        DeniedError: naming the reason, in one line that may be told to the sender.
    """
    fields = _parse(_without_scheme(header), _REQUEST)
    if fields["to"] != call.receiver:
        raise DeniedError(f"{SCHEME}: the proof is meant for another node")
    skew = now - int(fields["time"])
    if abs(skew) > WINDOW_S:
        raise DeniedError(f"{SCHEME}: the clocks differ by {abs(skew):.0f} s, at most {WINDOW_S} s are allowed")
    expected = _request_mac(keys, call, fields["time"], fields["nonce"])
    if fields["node"] != call.sender or not hmac.compare_digest(expected, fields["mac"]):
        between = ", and does nobody stand between them" if call.channel else ""
        raise DeniedError(f"{SCHEME}: the MAC is wrong; is the secret the same on both nodes{between}?")
    if not seen.first(call.sender, fields["nonce"], now):
        raise DeniedError(f"{SCHEME}: the request was seen before")
    return Proven(call.sender, fields["nonce"])


def sign_answer(keys: Keys, answerer: str, proven: Proven, status: int, body: bytes) -> str:
    """The value of the `Layermesh-Mac` header of an answer to a proven request."""
    return f"v=1,mac={_answer_mac(keys, answerer, proven, status, body)}"


def verify_answer(keys: Keys, header: str | None, answerer: str, asked: Proven, status: int, body: bytes) -> None:
    """Check that an answer comes from `answerer` and answers the request with `asked.nonce`.

    Raises:
        DeniedError: when it does not, or does not show it.
    """
    if header is None:
        raise DeniedError(f"{ANSWER_HEADER}: the answer carries no proof")
    expected = _answer_mac(keys, answerer, asked, status, body)
    if not hmac.compare_digest(expected, _parse(header, _ANSWER)["mac"]):
        raise DeniedError(f"{ANSWER_HEADER}: the answer's MAC is wrong")


def _request_mac(keys: Keys, call: Call, stamp: str, nonce: str) -> str:
    parts = ("v1", call.sender, call.receiver, call.method, call.target, stamp, nonce, _sha256(call.body))
    return _mac(keys.request, (*parts, call.channel) if call.channel else parts)


def _answer_mac(keys: Keys, answerer: str, proven: Proven, status: int, body: bytes) -> str:
    return _mac(keys.answer, ("v1", answerer, proven.sender, proven.nonce, str(status), _sha256(body)))


def _mac(key: bytes, parts: tuple[str, ...]) -> str:
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    return hmac.digest(key, framed, "sha256").hex()


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _without_scheme(header: str) -> str:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise DeniedError(f"Authorization: the scheme {SCHEME} is expected")
    return rest


def _parse(text: str, names: tuple[str, ...]) -> dict[str, str]:
    if len(text) > MAX_HEADER:
        raise DeniedError(f"{SCHEME}: at most {MAX_HEADER} characters are expected")
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in names or name in fields or not _FIELD[name].fullmatch(value):
            raise DeniedError(f"{SCHEME}: the fields {', '.join(names)} are expected, each once and well formed")
        fields[name] = value
    if fields.get("v", "1") != "1":
        raise DeniedError(f"{SCHEME}: version {fields['v']} is not known here, only 1")
    if len(fields) != len(names):
        raise DeniedError(f"{SCHEME}: the fields {', '.join(names)} are expected, each once and well formed")
    return fields
