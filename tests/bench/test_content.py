"""The upstream's content."""

import hashlib
import json
from pathlib import Path

from tests.bench.content import MIB, UpstreamStorage, pieces


def test_content_depends_on_the_seed_alone_and_has_the_size_asked_for() -> None:
    first, again, other = (b"".join(pieces(seed, 2 * MIB + 5)) for seed in ("a", "a", "b"))

    assert len(first) == 2 * MIB + 5
    assert first == again
    assert first[:MIB] != other[:MIB]


def test_an_image_lies_in_the_storage_under_its_digests(tmp_path: Path) -> None:
    storage = UpstreamStorage(tmp_path)

    image = storage.image("bench/x", "v1", [10, MIB + 1])

    for blob in (image.manifest, image.config, *image.layers):
        data = storage.blob_file(blob.digest).read_bytes()
        assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (blob.digest, blob.size)
    manifest = json.loads(storage.blob_file(image.manifest.digest).read_bytes())
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
