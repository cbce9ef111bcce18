"""Content for tests: the vectors' key stream, and repositories, manifests and proofs around some bytes."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from node.digest import Digest
from node.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from node.reference import Repository
from node.source import Wanted
from node.visibility import Proof, Visibility

MIB = 1024 * 1024
ALPINE = Repository("docker.io", "library/alpine")
SECRETS = Repository("corp.test", "secrets")
PUBLIC = Proof(Visibility.PUBLIC)
PRIVATE = Proof(Visibility.PRIVATE)
MEMBERS = Proof(Visibility.MEMBERS)


def key_stream(seed: str, size: int) -> Iterator[bytes]:
    """The first `size` bytes of the ChaCha20 key stream of `seed`, in pieces of 1 MiB."""
    cipher = Cipher(algorithms.ChaCha20(hashlib.sha256(seed.encode()).digest(), bytes(16)), None).encryptor()
    while size > 0:
        piece = min(size, MIB)
        yield cipher.update(bytes(piece))
        size -= piece


def content(size: int, seed: str = "content") -> bytes:
    """Bytes that look random, the same on every run."""
    return b"".join(key_stream(seed, size))


def wanted(data: bytes, repository: Repository = ALPINE, *, sized: bool = True) -> Wanted:
    """These bytes, as somebody asks for them."""
    return Wanted(repository, Digest.of(data), len(data) if sized else None)


def image(*layers: bytes) -> Manifest:
    """An image manifest that names these layers (the first one also as its config)."""
    named = [{"mediaType": "application/x", "digest": str(Digest.of(each)), "size": len(each)} for each in layers]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named[0], "layers": named}
    return parse_manifest(json.dumps(document).encode())


def index(*manifests: Manifest) -> Manifest:
    """An index that names these manifests."""
    named = [{"mediaType": each.media_type, "digest": str(each.digest), "size": len(each.data)} for each in manifests]
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named}).encode())


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A small file system on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Clock:
    """Unix time that tests move."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
