"""What the upstream registry holds, made and pushed once for all tests."""

from dataclasses import dataclass, field
from pathlib import Path

from node.digest import Digest
from tests.e2e.network import open_network
from tests.e2e.registry import Registry
from tests.fakes.images import Blob, FakeImage, FakeIndex, make_index


@dataclass(frozen=True, slots=True)
class Library:
    """`docker.io/library/scene:1`, with a layer over 64 MiB, and the quicker `docker.io/library/small:1`, also
    under the name that people are told to try first, `alpine`.
    """

    storage: Path
    scene: FakeIndex = field(repr=False)
    small: FakeIndex = field(repr=False)


def make_scene() -> FakeIndex:
    """The image of the scene, the same bytes each time."""
    return make_index("scene", (300_000, 1_200_000, 66 << 20))


def fill_library(folder: Path) -> Library:
    """Make the images, and push them into a registry whose storage every test's registry then serves."""
    made = Library(folder / "storage", make_scene(), make_index("small"))
    with open_network(folder) as network:
        registry = Registry.start(network.host("registry"), made.storage)
        registry.push("library/scene", "1", made.scene)
        registry.push("library/small", "1", made.small)
        registry.push("library/alpine", "latest", made.small)
        registry.stop()
    return made


def pulled(index: FakeIndex, image: FakeImage) -> tuple[Blob, ...]:
    """All that a runtime fetches to have one platform of an index, the index first."""
    return (index.manifest, image.manifest, *image.blobs)


def digests(blobs: tuple[Blob, ...]) -> tuple[Digest, ...]:
    """What they are named by."""
    return tuple(blob.digest for blob in blobs)
