"""What every fake runtime does in the same way: it reads what a manifest names, and checks what it got."""

import asyncio
import json
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from node.digest import Digest
from node.manifest import MANIFEST_TYPES
from tests.fakes.runtimes.line import FailedError, Line

JOINED = (", ".join([*MANIFEST_TYPES, "*/*"]),)
"""How containerd says which manifests it takes."""
BY_LINE = tuple(MANIFEST_TYPES)
"""How Docker and Podman say it: each type on a line of its own."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that has been pulled: its manifest, and its config and layers by digest."""

    manifest: bytes
    blobs: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Named:
    """A blob as a manifest names it."""

    digest: str
    size: int


class Runtime(Protocol):
    """A runtime on one machine: what it has kept of earlier pulls counts."""

    async def pull(self, line: Line, name: str, tag: str) -> Pulled:
        """Pull an image by its tag.

        Raises:
            FailedError: when the runtime gives up.
        """


def named_blobs(manifest: bytes | bytearray) -> list[Named]:
    """The config and the layers of a manifest.

    Raises:
        FailedError: when it is none.
    """
    try:
        document = json.loads(manifest)
        return [Named(each["digest"], each["size"]) for each in (document["config"], *document["layers"])]
    except (ValueError, KeyError, TypeError) as error:
        raise FailedError("manifests", f"not a manifest: {error}") from None


def is_right(data: bytes | bytearray, digest: str) -> bool:
    """Whether the bytes hash to their name."""
    return str(Digest.of(bytes(data))) == digest


async def all_of(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side; a failure ends the others.

    Raises:
        FailedError: whichever came first.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)
    except ExceptionGroup as errors:
        failed, others = errors.split(FailedError)
        if failed is None or others is not None:
            raise
        raise failed.exceptions[0] from None
