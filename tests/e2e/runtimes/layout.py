"""OCI image layouts (image-layout.md), as tools that unpack nothing write them."""

import json
import tarfile
from pathlib import Path


def layout_folder(folder: Path, image: str, platform: str) -> Path:
    """A folder of its own for each image and platform."""
    return folder / "".join(letter if letter.isalnum() else "-" for letter in f"{image}-{platform}")


def read_layout(layout: Path, path: str) -> bytes:
    """Find a file in the layers of the only image of a layout; the topmost counts."""
    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
    for layer in reversed(manifest["layers"]):
        with tarfile.open(_blob(layout, layer["digest"])) as unpacked:
            if path in unpacked.getnames():
                found = unpacked.extractfile(path)
                assert found is not None, f"{path} is not a file"
                return found.read()
    raise AssertionError(f"{layout} holds no {path}")


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value
