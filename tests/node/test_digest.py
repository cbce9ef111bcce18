"""Digests."""

import hashlib

import pytest

from node.digest import Algorithm, Digest
from node.errors import InvalidError


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_digest_reads_back_as_it_is_written(algorithm: Algorithm) -> None:
    digest = Digest.of(b"data", algorithm)
    assert digest.hex == hashlib.new(algorithm, b"data").hexdigest()
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
        " sha256:" + "a" * 64,
        "sha256:../../" + "a" * 58,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="digest"):
        Digest.parse(text)


def test_a_running_hash_agrees() -> None:
    hasher = Digest.of(b"ab").hasher()
    hasher.update(b"a")
    hasher.update(b"b")
    assert hasher.hexdigest() == Digest.of(b"ab").hex
