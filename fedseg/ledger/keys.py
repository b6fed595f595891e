"""Ed25519 and ML-DSA-44 keys and the files they live in.

Private bytes never leave this module except into their own 0600 file. Ledgers, plans and releases are signed with
Ed25519; ML-DSA-44 (FIPS 204), which a quantum computer does not break, is for cosignatures of checkpoints.
"""

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Never, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fedseg.errors import KeyFileError, StorageError
from fedseg.private_file import write_new

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
ML_DSA_PUBLIC_KEY_BYTES = 1312
ML_DSA_SIGNATURE_BYTES = 2420
_KEY_FILE_LIMIT_BYTES = 4096
_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key (RFC 8032)."""

    raw: bytes
    """The key as RFC 8032 encodes it, 32 bytes."""

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, got {len(self.raw)}")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key that `to_text` wrote as `text`.

        Raises:
            ValueError: If `text` is any other spelling.
        """
        return cls(decode_base64(text))

    def to_text(self) -> str:
        """Standard base64 with padding, 44 characters."""
        return encode_base64(self.raw)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's signature of exactly `data`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def fingerprint(self) -> str:
        """128 bits of the key's SHA-256 in groups of four digits, to be read aloud over a telephone.

        >>> PublicKey(bytes(32)).fingerprint()
        '6668-7aad-f862-bd77-6c8f-c18b-8e9f-8e20'
        """
        digits = hashlib.sha256(self.raw).hexdigest()[:_FINGERPRINT_DIGITS]
        return "-".join(digits[start : start + 4] for start in range(0, _FINGERPRINT_DIGITS, 4))


class SigningKey:
    """An Ed25519 private key. Its `repr` shows the public half; it cannot be pickled or copied."""

    __slots__ = ("_private", "public")

    public: PublicKey
    """The public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in the PEM file (PKCS #8, without password) at `path`.

        Raises:
            KeyFileError: If the file is missing, readable by group or others, or holds no such key.
        """
        private = _load_private(path)
        if not isinstance(private, Ed25519PrivateKey):
            raise _malformed(path)
        return cls(private)

    def save(self, path: Path) -> None:
        """Write the key to a new file only its owner can read, and wait until disk and directory hold it.

        Raises:
            KeyFileError: If `path` exists: a key is never overwritten.
            StorageError: If it cannot be written; then nothing is left.
        """
        _save_private(path, self._private)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of `data`."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.to_text()})"

    def __reduce__(self) -> Never:
        raise TypeError("a signing key cannot be pickled or copied")


@dataclass(frozen=True, slots=True)
class MlDsaPublicKey:
    """An ML-DSA-44 public key (FIPS 204)."""

    raw: bytes
    """The key as FIPS 204 encodes it, 1312 bytes."""

    def __post_init__(self) -> None:
        if len(self.raw) != ML_DSA_PUBLIC_KEY_BYTES:
            raise ValueError(f"an ML-DSA-44 public key has {ML_DSA_PUBLIC_KEY_BYTES} bytes, got {len(self.raw)}")

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's signature of exactly `data`, without a context string."""
        try:
            MLDSA44PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True


class MlDsaSigningKey:
    """An ML-DSA-44 private key. Its `repr` shows nothing private; it cannot be pickled or copied."""

    __slots__ = ("_private", "public")

    public: MlDsaPublicKey
    """The public half."""

    def __init__(self, private: MLDSA44PrivateKey) -> None:
        self._private = private
        self.public = MlDsaPublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(MLDSA44PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in the PEM file at `path`, as `SigningKey.load`."""
        private = _load_private(path)
        if not isinstance(private, MLDSA44PrivateKey):
            raise _malformed(path)
        return cls(private)

    def save(self, path: Path) -> None:
        """Write the key to a new file, as `SigningKey.save`."""
        _save_private(path, self._private)

    def sign(self, data: bytes) -> bytes:
        """The 2420-byte signature of `data`; another one each time."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"MlDsaSigningKey(public={encode_base64(self.public.raw[:16])}...)"

    def __reduce__(self) -> Never:
        raise TypeError("a signing key cannot be pickled or copied")


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes whose only `encode_base64` form is `text`.

    Raises:
        ValueError: If `text` is any other spelling: blanks, missing padding, or padding bits that are not zero.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not standard base64") from error
    if encode_base64(data) != text:
        raise ValueError("not the canonical base64 of its bytes")
    return data


def _load_private(path: Path) -> object:
    pem = _read_private_file(path)
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _malformed(path) from error


def _save_private(path: Path, private: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_new(path, pem)
    except OSError as error:
        raise _unwritable(path, error) from error


def _read_private_file(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a FIFO in the key's place must not make us wait for ever.
        opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - closed below
    except OSError as error:
        raise KeyFileError(
            f"the key file {path} cannot be opened",
            why=error.strerror or "unknown cause",
            fix="check the path, or create a new key",
        ) from error
    with opened as file:
        # The permissions of the open file, not of the name: the name could be swapped in between.
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise _malformed(path)
        if mode & 0o077:
            raise KeyFileError(
                f"the key file {path} is open to other users",
                why=f"its mode is {stat.S_IMODE(mode):04o}, wanted 0600",
                fix=f"chmod 600 {path}, and replace the key if others may have read it",
            )
        return file.read(_KEY_FILE_LIMIT_BYTES)


def _malformed(path: Path) -> KeyFileError:
    return KeyFileError(
        f"the key file {path} holds no usable key",
        why="wanted one private key of the right kind as PEM (PKCS #8), without password",
        fix="restore the file from its backup, or create a new key",
    )


def _unwritable(path: Path, error: OSError) -> KeyFileError | StorageError:
    kind = KeyFileError if isinstance(error, FileExistsError) else StorageError
    return kind(
        f"the key file {path} was not written",
        why=error.strerror or "unknown cause",
        fix="choose a path that does not exist yet, in a directory with room that you may write to",
    )
