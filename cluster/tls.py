"""A node's certificate, new with each start, and connections that take one certificate and no other (TLS 1.3).

Nobody vouches for a certificate but the cluster secret: its fingerprint, the sha256 of its DER form in hex, is part of
what a member says in the greeting that it proves, and every MAC speaks of the fingerprint that the caller was shown. So
who stands between two nodes, and has to show a certificate of his own, can neither pass proofs on nor be taken for one.
"""

import datetime
import hashlib
import os
import ssl
from dataclasses import dataclass
from typing import Final

from node.errors import StartError

_NAME: Final = "layermesh"
_SINCE: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_UNTIL: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""No expiration (RFC 5280, section 4.1.2.5): a certificate lasts as long as its node runs, and clocks may be wrong."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a node shows: its fingerprint, and the context to serve with."""

    fingerprint: str
    context: ssl.SSLContext


class Pin(ssl.SSLContext):
    """The caller's side: takes the certificate with `fingerprint`; without one, the first it is shown, then only that.

    Connections are kept apart by it, so none that another pin opened is ever used.
    """

    fingerprint: str

    def __new__(cls, fingerprint: str = "") -> "Pin":
        """The protocol is always the same."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, fingerprint: str = "") -> None:
        self.fingerprint = fingerprint
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.sslobject_class = _Checked

    def take(self, certificate: bytes | None) -> None:
        """Look at the certificate of a connection, before anything is sent over it.

        Raises:
            ssl.SSLCertVerificationError: when it is another one.
        """
        shown = fingerprint_of(certificate or b"")
        if self.fingerprint and shown != self.fingerprint:
            raise ssl.SSLCertVerificationError("it shows another certificate than before")
        self.fingerprint = shown


class _Checked(ssl.SSLObject):
    """One end of a connection, whose handshake is not over before the certificate was looked at."""

    def do_handshake(self) -> None:
        super().do_handshake()
        assert isinstance(self.context, Pin), "made by a pin"
        self.context.take(self.getpeercert(binary_form=True))


def fingerprint_of(certificate: bytes) -> str:
    """The sha256, in hex, of a certificate in DER form."""
    return hashlib.sha256(certificate).hexdigest()


def make_certificate() -> Certificate:
    """A new key (ECDSA, P-256) and its certificate. The key is in memory alone, and never in a file.

    Raises:
        StartError: when this machine does not let it be used.
    """
    from cryptography import x509  # loaded only by nodes that speak TLS
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), _SINCE, _UNTIL)
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # sessions are not resumed
    _load(context, pem)
    return Certificate(fingerprint_of(certificate.public_bytes(serialization.Encoding.DER)), context)


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Python takes keys from files only: one that is nothing but memory."""
    try:
        descriptor = os.memfd_create(_NAME)
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"[cluster] tls: a key cannot be used here, is /proc mounted? {error}") from None
