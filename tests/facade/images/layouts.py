"""Layouts for tests: images in memory, written to CARs and folders as export writes them, or as nobody should."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from facade.images.contracts import Body, Files
from facade.images.packing import pack
from facade.images.taking import Known, dag_of
from facade.images.tree import Path, Tree
from node.car import car_header, section_head
from node.cid import Cid, Codec
from node.dagpb import DirEntry, directory_block
from node.digest import Digest
from node.layout import LAYOUT, blob_path
from node.manifest import OCI_MANIFEST
from tests.fakes.images import FakeImage, FakeIndex, all_blobs

APP = "team/app:v1"


class Nothing(Files):
    """No files besides those at hand."""

    def open(self, path: Path, start: int) -> AbstractContextManager[Body]:
        raise AssertionError(f"{path} is at hand")


def index_json(*images: FakeImage | FakeIndex, name: str | None = APP) -> bytes:
    """An index that lists these images under one name."""
    annotations = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    entries: list[dict[str, Any]] = [image.manifest.described | annotations for image in images]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def layout_of(*images: FakeImage | FakeIndex, name: str | None = APP) -> dict[Path, bytes]:
    """The files of a layout."""
    blobs = {blob_path(blob.digest): blob.data for image in images for blob in all_blobs(image)}
    return {**blobs, ("oci-layout",): LAYOUT, ("index.json",): index_json(*images, name=name)}


def to_car(files: Mapping[Path, bytes], file: FilePath) -> Cid:
    """Write a layout as export does; its root."""
    tree = Tree({path: dag_of(data) for path, data in files.items()})
    pack(tree, Known(files, Nothing()), file, lambda _: None)
    return tree.root


def to_folder(files: Mapping[Path, bytes], folder: FilePath) -> None:
    """Write a layout as other tools do."""
    for path, data in files.items():
        target = folder.joinpath(*path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


@dataclass
class Blocks:
    """Blocks that a test makes up, and the CAR of them."""

    data: dict[Cid, bytes] = field(default_factory=dict)

    def add(self, data: bytes, codec: Codec = Codec.RAW) -> Cid:
        """Keep a block."""
        cid = Cid.of(data, codec)
        self.data[cid] = data
        return cid

    def folder(self, entries: Mapping[str, Cid]) -> Cid:
        """Keep a directory."""
        return self.add(directory_block([DirEntry(name, cid, 1) for name, cid in entries.items()]), Codec.DAG_PB)

    def layout(self, files: Mapping[Path, Cid]) -> Cid:
        """Keep the directories of a layout whose files are there."""
        blobs = {path[2]: cid for path, cid in files.items() if len(path) == 3}
        top = {path[0]: cid for path, cid in files.items() if len(path) == 1}
        return self.folder({**top, "blobs": self.folder({"sha256": self.folder(blobs)})})

    def write(self, root: Cid, file: FilePath, without: Sequence[Cid] = ()) -> None:
        """Write what is kept to a CAR."""
        with file.open("wb") as target:
            target.write(car_header([root]))
            for cid, data in self.data.items():
                if cid not in without:
                    target.write(section_head(cid, len(data)) + data)


def manifest_naming(digest: Digest, size: int) -> bytes:
    """A manifest whose config is this blob."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(digest), "size": size}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}).encode()
