"""Names of images: namespace, repository, tag, reference (OCI distribution specification 1.1, "Pulling manifests")."""

import re
from dataclasses import dataclass
from typing import Final, Self

from node.digest import Digest
from node.errors import InvalidError

_NAME: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_NAMESPACE: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?"
)
_LONGEST: Final = 255
DOCKER_HUB: Final = "docker.io"
OWN: Final = "local"
"""The namespace of the cluster's own repositories: no host name, so that no upstream can be meant."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository in a registry namespace, such as `library/alpine` in `docker.io`."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, namespace: str, name: str) -> Self:
        """Check both parts against the specification's grammar.

        Raises:
            InvalidError: naming the part that is malformed.
        """
        if not _NAMESPACE.fullmatch(namespace):
            raise InvalidError(f"registry namespace {namespace[:80]!r}: a host name with an optional port is expected")
        if not _NAME.fullmatch(name):
            raise InvalidError(f"repository name {name[:80]!r}: lower-case words joined by . _ - and / are expected")
        if len(namespace) + 1 + len(name) > _LONGEST:
            raise InvalidError(f"repository name: namespace and name together are longer than {_LONGEST} characters")
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag; holding one means the text was well formed."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check `text` against the tag grammar.

        Raises:
            InvalidError: when it is no tag.
        """
        if not _TAG.fullmatch(text):
            raise InvalidError(
                f"tag {text[:140]!r}: 1 to 128 letters, digits and . _ - are expected, not starting with . or -"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.text


def parse_selector(text: str) -> Tag | Digest:
    """What stands behind `/manifests/`: a digest if it holds a colon, else a tag.

    Raises:
        InvalidError: when it is neither.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image as people write it: a repository and a tag or digest."""

    repository: Repository
    selector: Tag | Digest

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[HOST/]NAME[:TAG][@DIGEST]` as Docker and containerd do: no host means Docker Hub, and no tag `latest`.

        Raises:
            InvalidError: naming the part that is malformed.
        """
        rest, at, digest_text = text.partition("@")
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost"):
            namespace, path = head, tail
        else:
            namespace, path = DOCKER_HUB, rest
        name, colon, tag_text = path.partition(":")
        if namespace == DOCKER_HUB and "/" not in name:
            name = f"library/{name}"
        repository = Repository.parse(namespace, name)
        tag = Tag.parse(tag_text if colon else "latest")
        return cls(repository, Digest.parse(digest_text) if at else tag)

    def __str__(self) -> str:
        mark = "@" if isinstance(self.selector, Digest) else ":"
        return f"{self.repository}{mark}{self.selector}"
