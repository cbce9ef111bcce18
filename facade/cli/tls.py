"""The certificate that the registry listeners show, from files that may be replaced while they are in use."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facade.cli.files import read_file
from node.errors import InvalidError, StartError

_ENCRYPTED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with its chain, and its key, both in PEM form."""

    certificate: Path
    key: Path


class ServerTls:
    """A context to serve with: connections that begin after `renew` are shown the newer certificate."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            StartError: as `server_context`.
        """
        self.files = files
        self.context = context = server_context(files)
        self._newest = context
        context.sni_callback = self._show_newest

    def renew(self, context: ssl.SSLContext) -> None:
        """Show the certificate of another context, as `server_context` makes it."""
        self._newest = context

    def _show_newest(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        if self._newest is not self.context:
            connection.context = self._newest


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Read the files.

    Raises:
        StartError: naming the file and what is wrong with it, or that they do not belong together.
    """
    _check("tls_cert", files.certificate, b"BEGIN CERTIFICATE", "a certificate in PEM form")
    key = _check("tls_key", files.key, b"PRIVATE KEY-----", "a private key in PEM form")
    if any(mark in key for mark in _ENCRYPTED):
        raise StartError(f"tls_key {files.key}: it needs a passphrase; one without is expected")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"tls_key {files.key}: it is not the key of tls_cert {files.certificate}") from None
        raise StartError(
            f"tls_cert {files.certificate} and tls_key {files.key}: they cannot be used: {error.reason or error}"
        ) from None
    except OSError as error:  # replaced between the two looks
        raise StartError(f"tls_cert {files.certificate}: it cannot be read: {error.strerror}") from None
    return context


def _check(setting: str, path: Path, mark: bytes, expected: str) -> bytes:
    try:
        data = read_file(path).data
    except InvalidError as error:
        raise StartError(f"{setting} {path}: it {error}") from None
    if mark not in data:
        raise StartError(f"{setting} {path}: {expected} is expected")
    return data
