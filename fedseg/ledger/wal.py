"""SQLite's write-ahead log as bytes: whether SQLite's reading of one leaves nothing unexplained. Pure.

SQLite believes a log up to the last commit before the first frame whose checksum fails, and silently ignores the rest.
That is right after a crash, but it also lets one flipped byte make a ledger shorter. A crash leaves valid frames
without a commit, or a frame cut short by the end of the file; anything else was changed.

Reference: sqlite.org/fileformat2.html, section 4.
"""

import struct

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_WORD_ORDER = {0x377F0682: "<", 0x377F0683: ">"}
"""The magic number says in which byte order checksums are computed."""

_Checksum = tuple[int, int]


def explains(wal: bytes, believed: int) -> bool:
    """Whether `wal` is what SQLite left, given that SQLite finds `believed` committed frames in it.

    True if after these frames come only valid ones that no commit follows, and at most one that was cut short.
    """
    if len(wal) < _HEADER_BYTES:
        return believed == 0
    magic, page_size, salts = struct.unpack_from(">I4xI4x8s", wal)
    order = _WORD_ORDER.get(magic)
    if order is None or _stored_checksum(wal, 24) != (running := _checksum(order, (0, 0), wal[:24])):
        return False
    frame_bytes = _FRAME_HEADER_BYTES + page_size
    start = _HEADER_BYTES + believed * frame_bytes
    if believed:
        # SQLite has verified the chain up to here.
        running = _stored_checksum(wal, start - frame_bytes + 16)
    for place in range(start, len(wal) - frame_bytes + 1, frame_bytes):
        frame = wal[place : place + frame_bytes]
        running = _checksum(order, running, frame[:8] + frame[_FRAME_HEADER_BYTES:])
        committed = frame[4:8] != bytes(4)
        if committed or frame[8:16] != salts or _stored_checksum(frame, 16) != running:
            return False
    return True


def _stored_checksum(data: bytes, place: int) -> _Checksum:
    first, second = struct.unpack_from(">II", data, place)
    return first, second


def _checksum(order: str, start: _Checksum, data: bytes) -> _Checksum:
    """The running checksum `start` carried on over `data`, whole pairs of 32-bit words."""
    first, second = start
    for even, odd in struct.iter_unpack(f"{order}II", data):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
