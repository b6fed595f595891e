"""Files that only their key opens, written and read as streams: whole, or refused.

AES-256-GCM in frames with a counter and a mark on the last one (STREAM: Hoang, Reyhanitabar, Rogaway and Vizar,
CRYPTO 2015), under a key that HKDF makes of the given key and 32 random bytes of the file. A header in the clear, which
every frame vouches for, says which key it needs.
"""

import io
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical

MAGIC: Final = b"fedseg-sealed-1\n"
KEY_BYTES: Final = 32
FRAME_BYTES: Final = 1024 * 1024
_SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16
_HEADER_LIMIT: Final = 4096
_LENGTH: Final = struct.Struct(">I")


class SealingWriter(io.RawIOBase):
    """Encrypts what is written into `file`; nothing can be read before `finish`."""

    def __init__(self, file: BinaryIO, key: bytes, header: Mapping[str, Json]) -> None:
        super().__init__()
        salt = secrets.token_bytes(_SALT_BYTES)
        self._file, self._header = file, canonical({**header, "salt": salt.hex()})
        self._key, self._waiting, self._frames = _file_key(key, salt), bytearray(), 0
        file.write(MAGIC + _LENGTH.pack(len(self._header)) + self._header)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:  # the signature of the standard library is untyped here
        """Take these bytes; all of them."""
        self._waiting += data
        while len(self._waiting) > FRAME_BYTES:
            self._put(bytes(self._waiting[:FRAME_BYTES]), is_last=False)
            del self._waiting[:FRAME_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write what is left as the last frame."""
        self._put(bytes(self._waiting), is_last=True)

    def _put(self, data: bytes, *, is_last: bool) -> None:
        sealed = self._key.encrypt(_nonce(self._frames, is_last=is_last), data, self._header)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._frames += 1


class SealedReader(io.RawIOBase):
    """The plain bytes of a sealed file. Each piece is authentic; that it is whole shows at its end.

    Args:
        file: The file, at its beginning.
        key_for: The key that a header asks for.

    Raises:
        VerificationError: While reading: if it was changed, cut short, or needs another key.
    """

    def __init__(self, file: io.BufferedReader, key_for: Callable[[Mapping[str, Json]], bytes]) -> None:
        super().__init__()
        self._frames: Final = _opened_frames(file, key_for)
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:  # the signature of the standard library is untyped here
        """Fill the buffer as far as the next frame goes; 0 at the end."""
        view = memoryview(buffer)
        while not self._rest:
            piece = next(self._frames, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def read_header(file: io.BufferedReader) -> Mapping[str, Json]:
    """What a sealed file says of itself in the clear. Whether it is true shows when it is opened.

    Raises:
        VerificationError: If it is no sealed file.
    """
    try:
        return parse_canonical(_read_header(file))
    except ValueError as error:
        raise changed("its header cannot be read") from error


def _opened_frames(file: io.BufferedReader, key_for: Callable[[Mapping[str, Json]], bytes]) -> Iterator[bytes]:
    header = _read_header(file)
    try:
        stated = parse_canonical(header)
        salt = bytes.fromhex(str(stated["salt"]))
    except (KeyError, ValueError) as error:
        raise changed("its header cannot be read") from error
    key = _file_key(key_for(stated), salt)
    number, is_last = 0, False
    while not is_last:
        (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
        if not _TAG_BYTES <= length <= FRAME_BYTES + _TAG_BYTES:
            raise changed("a frame has a length that none has")
        sealed = _exactly(file, length)
        is_last = not file.peek(1)
        try:
            yield key.decrypt(_nonce(number, is_last=is_last), sealed, header)
        except InvalidTag as error:
            raise changed("it was changed, cut short, or is encrypted with another key") from error
        number += 1


def _read_header(file: io.BufferedReader) -> bytes:
    if file.read(len(MAGIC)) != MAGIC:
        raise changed("it does not begin like one")
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
    if length > _HEADER_LIMIT:
        raise changed("its header is too long")
    return _exactly(file, length)


def _exactly(file: io.BufferedReader, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise changed("it was cut short")
    return data


def _file_key(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"fedseg/sealed-file/v1").derive(key))


def _nonce(frame: int, *, is_last: bool) -> bytes:
    return frame.to_bytes(11, "big") + bytes([is_last])


def changed(why: str) -> VerificationError:
    """The error for a sealed file that cannot be opened."""
    return VerificationError(
        "this file cannot be opened as a backup", why=why, fix="take another copy of it, or a newer backup"
    )
