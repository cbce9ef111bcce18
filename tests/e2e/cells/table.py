"""The cells of the fault matrix that are run with real clients: one line each."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

CONTAINERD, CONTAINERD_24, DOCKER, PODMAN, SKOPEO = "containerd", "containerd 2.4", "docker", "podman", "skopeo"
MEMBER: Final = True


class Form(Enum):
    """How a client comes by the node."""

    MIRROR = "mirror"
    """As a mirror; where that has nothing, the client goes to the upstream itself."""
    ALONE = "alone"
    """As a mirror, with no way to the upstream but through the node."""
    FULL_NAME = "full name"
    """As the registry that the image is named by."""


class Ends(Enum):
    """How a pull ends; without an end it is none of these."""

    RIGHT = "right"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Cell:
    """Who pulls, and how; what is wrong upstream and with the peer, as the matrix of the wire ring calls it.

    `ends` is what comes of a pull through the node. `worse`: why it may fail though a direct pull does not.
    """

    id: str
    client: str
    form: Form
    upstream: str
    peer: str = "none"
    member: bool = False
    ends: Ends = Ends.RIGHT
    worse: str = ""

    def __str__(self) -> str:
        return self.id


_RIGHT, _FAILS = Ends.RIGHT, Ends.FAILS
_MIRROR, _ALONE, _FULL_NAME = Form.MIRROR, Form.ALONE, Form.FULL_NAME
_BELIEVED: Final = "a member is believed, once: what it lied about was cut when its last piece was to be sent"

CELLS: Final = (
    Cell("a tag that is gone stays gone though a member knows it", CONTAINERD, _MIRROR, "404", "good", MEMBER, _FAILS),
    Cell("a refusal (401) is passed on as one", PODMAN, _FULL_NAME, "401", "good", ends=_FAILS),
    Cell("what upstream forbids (403) no peer gives", SKOPEO, _MIRROR, "403", "good", MEMBER, _FAILS),
    Cell("a rate limit with a time is bridged by a member", DOCKER, _MIRROR, "429-retry-after", "good", MEMBER),
    Cell("a rate limit without a time is passed on", SKOPEO, _FULL_NAME, "429", ends=_FAILS),
    Cell("an upstream that fails (500) is bridged by a member", CONTAINERD_24, _MIRROR, "500", "good", MEMBER),
    Cell("an upstream that is down is bridged by a member", PODMAN, _FULL_NAME, "refused", "good", MEMBER),
    Cell("with upstream down no stranger says what a tag means", CONTAINERD, _MIRROR, "refused", "good", ends=_FAILS),
    Cell("no answer at all is a failure and no wait for ever", CONTAINERD, _ALONE, "silent", ends=_FAILS),
    Cell("no answer at all is bridged by a member", DOCKER, _FULL_NAME, "silent", "good", MEMBER),
    Cell("blobs without an answer come from a stranger", PODMAN, _MIRROR, "silent-blobs", "good"),
    Cell("blobs without an answer fail where nobody has them", CONTAINERD_24, _ALONE, "silent-blobs", ends=_FAILS),
    Cell("bodies that stall are ended by a member", CONTAINERD_24, _MIRROR, "stalls", "good", MEMBER),
    Cell("bodies that stall here and there are gone on with", PODMAN, _FULL_NAME, "stalls", "stalls"),
    Cell("bodies that are cut are unbroken here", PODMAN, _MIRROR, "cuts", "good"),
    Cell("bodies that are cut everywhere are gone on with", PODMAN, _FULL_NAME, "cuts"),
    Cell("bodies cut by a member as well are put together", CONTAINERD, _MIRROR, "cuts", "cuts", MEMBER),
    Cell("a slow upstream is not given up for a peer that hangs", SKOPEO, _FULL_NAME, "drips", "stalls"),
    Cell("a length that is too long is found out", CONTAINERD, _ALONE, "says-longer", "good", MEMBER),
    Cell("wrong bytes are never passed off as right ones", CONTAINERD, _MIRROR, "wrong-bytes-late", ends=_FAILS),
    Cell("wrong bytes are passed by where a member has right ones", PODMAN, _MIRROR, "wrong-bytes", "good", MEMBER),
    Cell("a wrong digest in a header is not believed", DOCKER, _FULL_NAME, "wrong-digest-header"),
    Cell("no digest in a header is no fault", CONTAINERD_24, _MIRROR, "no-digest-header", "gone", MEMBER),
    Cell("an encoding nobody asked for is undone", PODMAN, _MIRROR, "gzip", "lies-about-bytes", MEMBER),
    Cell("a redirect is followed past a stranger that lies", DOCKER, _MIRROR, "redirect", "lies-about-bytes"),
    Cell("a redirect in a circle is a failure", CONTAINERD_24, _ALONE, "redirect-loop", ends=_FAILS),
    Cell("a token that expires in a pull is renewed", CONTAINERD, _MIRROR, "expired-token"),
    Cell("a stranger's lie about a mapping costs nothing", PODMAN, _FULL_NAME, "fine", "lies-about-the-mapping"),
    Cell(
        "a member's lie about a mapping is found out",
        CONTAINERD,
        _MIRROR,
        "fine",
        "lies-about-the-mapping",
        MEMBER,
        worse=_BELIEVED,
    ),
)
