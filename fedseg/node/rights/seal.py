"""The certificate of a unit's rights service, and its signature under answers and notices, as in OpenDSR 2.0."""

import base64
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedseg.errors import CertificateError, KeyFileError


@dataclass(frozen=True, slots=True)
class Seal:
    """A certificate with its private key."""

    certificate: bytes
    """PEM, with the chain if there is one."""
    key: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read both from PEM files.

        Raises:
            CertificateError: If there is no certificate, or it is another key's.
            KeyFileError: If the key is missing, readable by others, or neither RSA nor on an elliptic curve.
        """
        private = _load_key(key)
        try:
            pem = certificate.read_bytes()
            first = x509.load_pem_x509_certificates(pem)[0]
        except (OSError, ValueError) as error:
            raise _no_certificate(certificate, "it cannot be read as PEM") from error
        if first.public_key() != private.public_key():
            raise _no_certificate(certificate, f"it belongs to another key than {key}")
        return cls(pem, private)

    def is_for(self, host: str) -> bool:
        """Whether the certificate names this host as one of its own."""
        first = x509.load_pem_x509_certificates(self.certificate)[0]
        try:
            names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        return host.lower() in (one.lower() for one in names.get_values_for_type(x509.DNSName))

    def sign(self, body: bytes) -> str:
        """Base64 of the signature over the SHA-256 of an answer's body: PKCS #1 v1.5 with RSA, else ECDSA."""
        if isinstance(self.key, RSAPrivateKey):
            signature = self.key.sign(body, PKCS1v15(), SHA256())
        else:
            signature = self.key.sign(body, ECDSA(SHA256()))
        return base64.b64encode(signature).decode("ascii")


def _load_key(path: Path) -> RSAPrivateKey | EllipticCurvePrivateKey:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyFileError(
                f"others may read {path}", why="whoever has it can answer for us", fix=f"chmod 600 {path}"
            )
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise _no_key(path) from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise _no_key(path)
    return key


def _no_key(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} holds no private key that can sign answers",
        why="it must be PEM without a password, RSA or on an elliptic curve",
        fix="name the key that belongs to --cert",
    )


def _no_certificate(path: Path, why: str) -> CertificateError:
    return CertificateError(f"{path} cannot be used as certificate", why=why, fix="name a certificate and its own key")
