"""Whom recipients are still to be told about: identifiers, sealed with keys that are destroyed with the last answer.

A recipient knows nobody by the unit's pseudonyms, so an identifier has to outlive its erasure here until the recipient
has answered. It is encrypted (AES-256-GCM) for each request, under a key for each order, in a file of its own: a copy
of the register tells nothing, and no file of the unit holds an identifier in the clear.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedseg.errors import StorageError, VerificationError
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.rights.notice_register import NoticeRegister, SealedIdentity
from fedseg.private_file import destroy

FOLDER: Final = "notice-keys"
"""Directory in LOCAL with the keys that are in use."""
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Identities:
    """Seals the identifiers of one order, with a key that is made when the first of them is needed."""

    def __init__(self, home: NodeHome, identifiers: Mapping[bytes, bytes]) -> None:
        self._home: Final = home
        self._identifiers: Final = identifiers
        self._name: Final = secrets.token_hex(8)
        self._key: bytes | None = None

    def seal(self, request: str, subject: bytes) -> SealedIdentity:
        """The identifier behind a pseudonym; the key is on the disk when this returns.

        Raises:
            StorageError: If the key cannot be written.
        """
        if self._key is None:
            key = secrets.token_bytes(_KEY_BYTES)
            self._home.keep_local(f"{FOLDER}/{self._name}.key", key)
            self._key = key
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, self._identifiers[subject], request.encode())
        return SealedIdentity(self._name, nonce + sealed)


def unseal(home: NodeHome, request: str, identity: SealedIdentity) -> bytes:
    """The identifier of the person behind a request.

    Raises:
        VerificationError: If its key is gone, or not the one it was sealed with.
    """
    try:
        key = (home.path / LOCAL / FOLDER / f"{identity.key}.key").read_bytes()
        nonce, sealed = identity.sealed[:_NONCE_BYTES], identity.sealed[_NONCE_BYTES:]
        return AESGCM(key).decrypt(nonce, sealed, request.encode())
    except (OSError, ValueError, InvalidTag) as error:
        raise VerificationError(
            f"nobody can tell any more whom the request {request} is about",
            why=f"its key in LOCAL/{FOLDER} is gone or another",
            fix="run the command that began it once more, with the same ticket",
        ) from error


def destroy_unused(home: NodeHome, notices: NoticeRegister) -> None:
    """Destroy the keys with which nothing is sealed any more.

    Raises:
        StorageError: If one cannot be destroyed.
    """
    folder = home.path / LOCAL / FOLDER
    names = [path.stem for path in folder.glob("*.key")]
    if names:
        notices.without_use(names, lambda name: _destroy(folder / f"{name}.key"))


def _destroy(path: Path) -> None:
    try:
        destroy(path)
    except OSError as error:
        raise StorageError(
            f"{path} was not destroyed",
            why=error.strerror or "unknown cause",
            fix="let the unit's user write it, then: fedseg subject sweep",
        ) from error
