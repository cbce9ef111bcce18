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
from node.manifest import OCI_INDEX, OCI_MANIFEST
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


def attested(*images: FakeImage) -> dict[Path, bytes]:
    """A layout as `docker buildx build --output type=oci` writes it, with attestations in the image's index."""
    children, blobs = [], {blob.digest: blob.data for image in images for blob in all_blobs(image)}

    def keep(media_type: str, document: object) -> dict[str, Any]:
        data = json.dumps(document, indent=2).encode()
        blobs[Digest.of(data)] = data
        return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}

    for image in images:
        statement = keep("application/vnd.in-toto+json", {"subject": [{"digest": str(image.manifest.digest)}]})
        nowhere = {"architecture": "unknown", "os": "unknown"}
        config = keep("application/vnd.oci.image.config.v1+json", nowhere | {"config": {}})
        statement["annotations"] = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]}
        about = {
            "vnd.docker.reference.digest": str(image.manifest.digest),
            "vnd.docker.reference.type": "attestation-manifest",
        }
        children.append(image.manifest.described | {"platform": {"architecture": image.architecture, "os": "linux"}})
        children.append(keep(OCI_MANIFEST, manifest) | {"annotations": about, "platform": nowhere})
    root = keep(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
    root["annotations"] = {
        "io.containerd.image.name": "docker.io/library/app:v1",
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
        "org.opencontainers.image.ref.name": "v1",
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [root]}
    files = {blob_path(digest): data for digest, data in blobs.items()}
    return {**files, ("oci-layout",): LAYOUT, ("index.json",): json.dumps(index).encode()}


def by_umoci(image: FakeImage) -> dict[Path, bytes]:
    """A layout as umoci leaves it: `v1` has no layers, manifests do not name their type, and not every blob is used."""

    def plain(layers: list[Any]) -> bytes:
        return json.dumps({"schemaVersion": 2, "config": image.config.described, "layers": layers}).encode()

    manifests = {"v1": plain([]), "v2": plain([layer.described for layer in image.layers])}
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(Digest.of(data)),
            "size": len(data),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
        for tag, data in manifests.items()
    ]
    blobs = [*(blob.data for blob in image.blobs), *manifests.values(), b"left behind"]
    files = {blob_path(Digest.of(data)): data for data in blobs}
    return {
        **files,
        ("oci-layout",): LAYOUT + b"\n",
        ("index.json",): json.dumps({"schemaVersion": 2, "manifests": entries}).encode(),
    }
