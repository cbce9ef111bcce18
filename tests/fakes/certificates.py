"""Certificates for loopback from an authority of the test's own."""

import ssl
from pathlib import Path

import trustme

from facade.cli.tls import TlsFiles

AUTHORITY = trustme.CA()
"""Making one takes a while, so all tests share it."""


def write_certificate(folder: Path, *names: str) -> TlsFiles:
    """A certificate for these names, or for 127.0.0.1, and its key, as files in `folder`; those before are replaced."""
    made = AUTHORITY.issue_cert(*(names or ("127.0.0.1",)))
    files = TlsFiles(folder / "tls.crt", folder / "tls.key")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    files.key.write_bytes(made.private_key_pem.bytes())
    files.key.chmod(0o600)
    return files


def trusting() -> ssl.SSLContext:
    """A client that believes the authority, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context
