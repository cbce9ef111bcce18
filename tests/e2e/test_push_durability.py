"""What was answered with 201 stays, however the node ends; and many clients at once are no trouble."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Final

import pytest

from node.digest import Digest
from node.manifest import OCI_MANIFEST
from tests.e2e.mesh import Node, make_disk, wait_until_met, wait_until_pushed
from tests.e2e.needs import skip_without_loop_devices
from tests.e2e.network import Network
from tests.e2e.registry import Registry
from tests.e2e.repository import OwnRepository
from tests.fakes.images import Blob, FakeImage, make_image

pytestmark = pytest.mark.e2e

ROUNDS: Final = 15
CLIENTS: Final = 50


@dataclass
class Promised:
    """What one client was answered 201 for."""

    repository: OwnRepository
    blobs: list[Blob] = field(default_factory=list)
    images: dict[str, FakeImage] = field(default_factory=dict)

    def push(self, name: str, numbers: Iterator[int]) -> None:
        """Push image after image until the node is gone; the first to be done with its second ends it at that."""
        try:
            for number in numbers:
                image, tag = make_image(f"{name}/{number}", (2_000, 300_000)), f"{name}.{number}"
                for blob in image.blobs:
                    self.repository.put_blob(blob)
                    self.blobs.append(blob)
                self.repository.put_manifest(tag, image.manifest)
                if number == 1:
                    self.repository.node.process.popen.kill()
                self.images[tag] = image
        except (OSError, HTTPException):
            assert self.repository.node.process.popen.wait(timeout=10) == -SIGKILL

    def assert_kept(self) -> None:
        """Everything is there, with the right bytes."""
        for tag, image in self.images.items():
            self.repository.assert_holds(image, tag)
        for blob in self.blobs:
            assert self.repository.read(f"blobs/{blob.digest}").body == blob.data

    def assert_reached(self, node: Node) -> None:
        """Another member serves the images too."""
        there = OwnRepository(node, self.repository.name)
        for tag, image in self.images.items():
            wait_until_pushed(node, there.name, tag)
            there.assert_holds(image, tag)


def test_nothing_that_was_answered_with_201_is_lost_when_the_node_is_killed_right_then(
    members: tuple[Node, Node],
) -> None:
    node, other = members
    everything: list[Promised] = []
    for turn in range(ROUNDS):
        promises = [Promised(OwnRepository(node, f"team/app{client}")) for client in range(4)]
        with ThreadPoolExecutor(len(promises)) as pool:
            pushing = [pool.submit(each.push, f"{turn}-{client}", count()) for client, each in enumerate(promises)]
        assert all(done.result() is None for done in pushing)
        node.start_again()
        for promised in promises:
            promised.assert_kept()
        everything += promises
    for promised in everything:
        promised.assert_kept()
    assert all(node.stored().values()), node.stored()

    wait_until_met(node, other)
    for promised in everything[-8:]:
        promised.assert_reached(other)


def test_nothing_that_was_answered_with_201_is_lost_when_the_power_goes_right_then(
    network: Network, registry: Registry, folder: Path
) -> None:
    skip_without_loop_devices()
    host, disk = network.host("a"), make_disk(folder / "disk")
    image, other = make_image("first", (2_000, 300_000)), make_image("second", (2_000,))
    kept: list[str] = []
    for blob in (*image.blobs, image.manifest, *other.blobs, other.manifest, None):
        node = Node.start(host, registry, disk_file=disk)
        node.wait_ready()
        repository = OwnRepository(node, "team/app")
        for path in kept:
            answer = repository.read(path)
            assert str(Digest.of(answer.body)) == answer.headers["Docker-Content-Digest"] == path.rpartition("/")[2]
        if blob is not None:
            kept.append(_push_one(repository, blob))
            disk = _cut_power(node, disk)
    repository.assert_holds(image, image.manifest.digest.hex[:8])
    repository.assert_holds(other, other.manifest.digest.hex[:8])


def _push_one(repository: OwnRepository, blob: Blob) -> str:
    """Push a blob, or a manifest under a tag too; where it is read by its digest."""
    if blob.media_type != OCI_MANIFEST:
        repository.put_blob(blob)
        return f"blobs/{blob.digest}"
    repository.put_manifest(blob.digest.hex[:8], blob)
    return f"manifests/{blob.digest}"


def _cut_power(node: Node, disk: Path) -> Path:
    """The disk as it would be found if the power had gone at this moment; the node has ended."""
    found = disk.with_name(f"{disk.name}-")
    with node.process.frozen():
        shutil.copyfile(disk, found)
        node.process.popen.kill()
    node.process.kill()
    return found


def _push_and_pull(nodes: tuple[Node, Node], client: int) -> None:
    """Push two images through one node, one after the other under the same tag, and read them through the other."""
    here, there = (OwnRepository(node, f"team/app{client % 7}") for node in (nodes[client % 2], nodes[1 - client % 2]))
    for turn in range(2):
        image, tag = make_image(f"shared/{turn}", (200_000, 10_000 + client)), f"client{client}-{turn}"
        here.push(image, tag)
        here.assert_holds(image, tag)
        wait_until_pushed(there.node, there.name, tag, within_s=30)
        there.assert_holds(image, tag)


def test_fifty_clients_that_push_and_pull_at_once_see_no_error_and_no_wrong_byte(members: tuple[Node, Node]) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(_push_and_pull, members, client) for client in range(CLIENTS)]:
            done.result()
    for node in members:
        assert all(node.stored().values()), node.stored()
