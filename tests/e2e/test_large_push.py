"""A layer larger than any memory is pushed over two restarts of the node, and pulled through another member."""

import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import pytest

from node.digest import Algorithm, Digest
from tests.e2e.mesh import Node, wait_until_pushed
from tests.e2e.repository import EMPTY, OwnRepository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

GIB: Final = 1 << 30
SIZE: Final = int(os.environ.get("LAYERMESH_E2E_LAYER_GIB", "2")) * GIB
"""20 GiB take as much room on disk twice, and minutes: for runs by hand."""
MOST_MEMORY: Final = 200 << 20
_PIECE: Final = 1 << 20
_FILLING: Final = hashlib.shake_256(b"a large layer").digest(_PIECE - 8)


def _pieces(first: int = 0) -> Iterator[bytes]:
    """The layer, from its piece `first` on: no piece is like another, and nothing is kept."""
    for number in range(first, SIZE // _PIECE):
        yield number.to_bytes(8, "big") + _FILLING


def _digest() -> Digest:
    hashed = hashlib.sha256()
    for piece in _pieces():
        hashed.update(piece)
    return Digest(Algorithm.SHA256, hashed.hexdigest())


def _rest(start: int) -> Iterator[bytes]:
    """The layer from byte `start` on."""
    pieces = _pieces(start // _PIECE)
    for piece in islice(pieces, 1):
        yield piece[start % _PIECE :]
    yield from pieces


def _until(pieces: Iterator[bytes], count: int, then: Callable[[], object]) -> Iterator[bytes]:
    """After so many pieces something happens, then come the others."""
    yield from islice(pieces, count)
    then()
    yield from pieces


def _resumed(repository: OwnRepository, location: str) -> int:
    """How many bytes of an upload have come; the specification has no way to say that none has."""
    answer = repository.ask("GET", location)
    assert answer.status == 204, answer
    return int(answer.headers["Range"].removeprefix("0-")) + 1


def _push_until(repository: OwnRepository, location: str, start: int, end: Callable[[], object]) -> int:
    """Send a third of the layer from `start` on, until the node ends; how far it has come when it is back."""
    with pytest.raises(OSError):
        repository.append(location, start, _until(_rest(start), SIZE // _PIECE // 3, end))
    repository.node.start_again()
    resumed = _resumed(repository, location)
    assert start + SIZE // 4 < resumed < SIZE, "most of what came has to be there"
    return resumed


def test_a_large_layer_is_pushed_over_restarts_and_pulled_through_another_member_in_little_memory(
    members: tuple[Node, Node],
) -> None:
    first, second = members
    repository, other = OwnRepository(first, "team/large"), OwnRepository(second, "team/large")
    location, memory, digest = repository.begin(), [], _digest()

    def stop() -> None:
        memory.append(first.most_memory())
        first.process.terminate(within_s=10)

    def kill() -> None:
        memory.append(first.most_memory())
        first.process.kill()

    start = _push_until(repository, location, 0, stop)
    start = _push_until(repository, location, start, kill)
    assert repository.append(location, start, _rest(start)).status == 202
    repository.finish(location, digest)
    repository.put_blob(EMPTY)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(digest), "size": SIZE}
    repository.put_document("1", EMPTY, [layer], artifactType="application/vnd.example.large")
    memory.append(first.most_memory())

    wait_until_pushed(second, other.name, "1")
    assert other.document("manifests/1")["layers"] == [layer]
    assert other.hash_blob(digest) == (SIZE, digest)
    assert max(*memory, first.most_memory(), second.most_memory()) < MOST_MEMORY, memory
