"""The server's own certificate authority, its TLS certificate, and the keys of nodes. Bytes, no files."""

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedseg.errors import CertificateError, KeyFileError

AUTHORITY_LIFE: Final = timedelta(days=3653)
SERVER_LIFE: Final = timedelta(days=825)
GRACE: Final = timedelta(days=1)
"""Certificates are valid from this long ago on, so that a node's slow clock is told from a wrong certificate."""


class Issued(NamedTuple):
    """A certificate with its private key, both as PEM."""

    certificate: bytes
    key: bytes


class KeyPair(NamedTuple):
    """A node's key in OpenSSH's format."""

    private: bytes
    public: bytes


def new_authority(now: datetime) -> Issued:
    """A new certificate authority, valid for ten years; it can vouch for servers alone."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name("fedseg certificate authority")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    built = (
        _certificate(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, SHA384())
    )
    return Issued(built.public_bytes(Encoding.PEM), _pem(key))


def issue(authority: Issued, hosts: Sequence[str], now: datetime) -> Issued:
    """A certificate for the server at `hosts`, names or IP addresses, valid for 825 days."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError("an authority of ours has a key on an elliptic curve")
    key = ec.generate_private_key(ec.SECP384R1())
    vouched = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    built = (
        _certificate(_name("fedseg server"), issuer.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(vouched, critical=False)
        .sign(issuer_key, SHA384())
    )
    return Issued(built.public_bytes(Encoding.PEM), _pem(key))


def new_node_key(comment: str) -> KeyPair:
    """A new key for a node, on P-384: Flower knows nodes by keys on NIST's curves, and nothing else."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private, public + b" " + comment.encode("ascii") + b"\n")


def public_node_key(private: bytes) -> str:
    """The public half of a node's key as OpenSSH writes it, without a comment.

    Raises:
        KeyFileError: If `private` is no private key of a node.
    """
    return _load_node_key(private).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def sign_with_node_key(private: bytes, data: bytes) -> bytes:
    """A node key's signature of `data`: ECDSA with SHA-384, in DER.

    Raises:
        KeyFileError: If `private` is no private key of a node.
    """
    return _load_node_key(private).sign(data, ec.ECDSA(SHA384()))


def _load_node_key(private: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_ssh_private_key(private, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_private_node_key("it is not one private key in OpenSSH's format, without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_private_node_key("its key is of another kind: Flower takes NIST's curves alone")
    return key


def node_key_signed(public: str, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is of exactly `data`, by the node key with this public key in OpenSSH's format."""
    try:
        key = load_ssh_public_key(public.encode("ascii"))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(signature, data, ec.ECDSA(SHA384()))
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A public key's fingerprint as `ssh-keygen -l` shows it, to compare over the telephone.

    Raises:
        KeyFileError: If it is not one public key in OpenSSH's format.
    """
    try:
        blob = base64.b64decode(public.split()[1], validate=True)
    except (IndexError, ValueError) as error:
        raise not_a_node_key("it is not one line in OpenSSH's format") from error
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
    return f"SHA256:{digest}"


def _no_private_node_key(why: str) -> KeyFileError:
    return KeyFileError(
        "the file does not hold the private key of a node", why=why, fix="make a new one: fedseg node renew DIR"
    )


def not_a_node_key(why: str) -> KeyFileError:
    """The error for a file that does not hold a node's public key."""
    return KeyFileError(
        "the file does not hold the public key of a node",
        why=why,
        fix="ask the unit for the node.pub that `fedseg node init` has made",
    )


def require_authority(certificate: bytes) -> None:
    """Check that PEM bytes are one certificate of an authority.

    Raises:
        CertificateError: If they are not.
    """
    try:
        (found,) = x509.load_pem_x509_certificates(certificate)
        ours = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound) as error:
        raise _no_authority("it is not one certificate as PEM, with basic constraints") from error
    if not ours:
        raise _no_authority("the certificate is a server's own, which vouches for nobody")


def valid_until(certificate: bytes) -> datetime:
    """When a certificate ends."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _no_authority(why: str) -> CertificateError:
    return CertificateError(
        "the file does not hold the certificate of an authority",
        why=why,
        fix="ask the server's operator for the ca.crt that `fedseg server init` has made",
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - GRACE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
