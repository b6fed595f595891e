"""A ledger as a folder of tiles (c2sp.org/tlog-tiles): what any web server can serve and any tile client can check.

    checkpoint                      the newest checkpoint, a signed note
    tile/0/000, tile/1/000.p/17     hashes: of entries; of full tiles of the level below; `.p/` where not yet full
    tile/entries/000                the entries, each with its length before it
    payload/SHA256                  the bytes that entries refer to, which the specification leaves to us
    key-change/N                    as much ours: the checkpoint of N entries by which a key has introduced the next one

Reading believes nothing: every file is bounded, plain and where it must be, every hash is computed from the entries.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from fedseg.errors import LedgerUnreadableError, VerificationError
from fedseg.ledger.canonical import sha256_hex
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.entries import ENTRY_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES, Genesis, History
from fedseg.ledger.key_change import LogKeys
from fedseg.ledger.notes import NOTE_LIMIT, Note, ed25519_key_id, parse_note
from fedseg.ledger.raw import RawLedger

CHECKPOINT_FILE = "checkpoint"
TILE_WIDTH = 256
"""Hashes of a full tile, and entries of a full bundle."""
TOTAL_LIMIT_BYTES = 1024 * 1024 * 1024
"""Most bytes that are read of a folder."""
_TILE_HEIGHT = 8
"""A tile's hashes are those of subtrees of 256**level leaves."""
_LENGTH_BYTES = 2
_BUNDLE_LIMIT_BYTES = TILE_WIDTH * (_LENGTH_BYTES + ENTRY_LIMIT_BYTES)
_NAME_BASE = 1000


def export_tiles(raw: RawLedger, folder: Path) -> None:
    """Write `raw` into `folder`, which must be empty or not there; the checkpoint last, so that a half is no log.

    Raises:
        OSError: If it cannot be written, or there is something in it.
        VerificationError: If `raw` has no checkpoint, or an entry that is none.
    """
    history = raw.history()
    if not raw.notes:
        raise _unreadable("the ledger has no checkpoint")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
    leaves = [entry.to_bytes() for entry in raw.entries]
    payloads = ((_payload_path(sha256_hex(data)), data) for data in raw.payloads.values())
    notes, newest = dict(raw.notes), (CHECKPOINT_FILE, raw.notes[-1][1].encode("utf-8"))
    changes = ((_change_path(size), notes[size].encode("utf-8")) for size in _handovers(history) if size in notes)
    for path, data in chain(_hash_tiles(history), _bundles(leaves), payloads, changes, [newest]):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def is_tiles(folder: Path) -> bool:
    """Whether `folder` looks like a log in tiles."""
    return (folder / CHECKPOINT_FILE).is_file() and (folder / "tile").is_dir()


def read_tiles(folder: Path) -> RawLedger:
    """The ledger in `folder`, with its newest checkpoint and those that introduce keys. Not checked yet, but that
    tiles and entries agree.

    Signatures of others on the checkpoint, such as cosignatures, are left out: they are not the ledger's.

    Raises:
        LedgerUnreadableError: If a file is missing, too large, or no plain file; or tiles are not those of the entries.
        VerificationError: If an entry is not canonical or not in its place, or the checkpoint is none.
    """
    files = _Files(folder)
    note = files.read_text(CHECKPOINT_FILE)
    size = parse_checkpoint(parse_note(note).text).size
    history = History()
    for path, width in _paths("entries", size):
        history = history.extended(_split_bundle(files.read(path, _BUNDLE_LIMIT_BYTES), width))
    for path, data in _hash_tiles(history):
        if files.read(path, len(data)) != data:
            raise _unreadable(f"{path} is not what its entries give")
    payloads = {id_: files.read(_payload_path(sha256), PAYLOAD_LIMIT_BYTES) for id_, sha256 in history.payloads.items()}
    notes = {one: files.read_text(_change_path(one)) for one in _handovers(history)} | {size: note}
    own = [(one, _own_note(text, history, one)) for one, text in notes.items()]
    return RawLedger.from_history(history, own, payloads)


class _Files:
    """The files of a folder that somebody else made, and how much of them may still be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = TOTAL_LIMIT_BYTES

    def read(self, path: str, limit: int) -> bytes:
        """A plain file of at most `limit` bytes."""
        try:
            file = open(self._folder / path, "rb", opener=_open_plainly)  # noqa: SIM115 - closed below
        except OSError as error:
            raise _unreadable(f"{path} cannot be opened: {error.strerror or 'unknown cause'}") from error
        with file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > min(limit, self._left):
                raise _unreadable(f"{path} is not a plain file of at most {min(limit, self._left)} bytes")
            data = file.read(found.st_size)
        self._left -= len(data)
        return data

    def read_text(self, path: str) -> str:
        """A note."""
        try:
            return self.read(path, NOTE_LIMIT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _unreadable(f"{path} is not text") from error


def _open_plainly(path: str, flags: int) -> int:
    """No link is followed, and a FIFO in the file's place must not make us wait for ever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _hash_tiles(history: History) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each tile of hashes."""
    level, hashes = 0, history.size
    while hashes:
        for number, (path, width) in enumerate(_paths(str(level), hashes)):
            first = number * TILE_WIDTH
            tile = (history.subtree(level * _TILE_HEIGHT, place) for place in range(first, first + width))
            yield path, b"".join(tile)
        level, hashes = level + 1, hashes // TILE_WIDTH


def _bundles(leaves: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each bundle of entries."""
    for number, (path, width) in enumerate(_paths("entries", len(leaves))):
        bundle = leaves[number * TILE_WIDTH :][:width]
        yield path, b"".join(len(leaf).to_bytes(_LENGTH_BYTES) + leaf for leaf in bundle)


def _split_bundle(data: bytes, width: int) -> Iterator[bytes]:
    """The `width` entries that `data` holds, and nothing else."""
    end = 0
    for _ in range(width):
        start = end + _LENGTH_BYTES
        end = start + int.from_bytes(data[end:start])
        if end > len(data):
            raise _unreadable("a bundle holds fewer entries than it must")
        yield data[start:end]
    if end != len(data):
        raise _unreadable("a bundle holds more entries than it must")


def _paths(level: str, count: int) -> Iterator[tuple[str, int]]:
    """Path and width of each tile of a level with `count` hashes or entries, from left to right."""
    for first in range(0, count, TILE_WIDTH):
        path, width = f"tile/{level}/{_tile_name(first // TILE_WIDTH)}", min(TILE_WIDTH, count - first)
        yield (path if width == TILE_WIDTH else f"{path}.p/{width}"), width


def _tile_name(number: int) -> str:
    """A tile's number in groups of three digits, all but the last marked: 1234067 is `x001/x234/067`."""
    rest, last = divmod(number, _NAME_BASE)
    groups = [f"{last:03}"]
    while rest:
        rest, group = divmod(rest, _NAME_BASE)
        groups.append(f"x{group:03}")
    return "/".join(reversed(groups))


def _payload_path(sha256: str) -> str:
    return f"payload/{sha256}"


def _change_path(size: int) -> str:
    return f"key-change/{size}"


def _handovers(history: History) -> list[int]:
    return [entry.seq + 1 for entry in history.key_changes]


def _own_note(note: str, history: History, size: int) -> str:
    """The note of this size with the signature of the ledger's own key alone."""
    genesis = Genesis.of(history)
    try:
        key = LogKeys.of(history).signer(size)
    except VerificationError:
        # `check_log` will say what is wrong with the change of key.
        key = genesis.public_key
    parsed, own = parse_note(note), (genesis.origin, ed25519_key_id(genesis.origin, key))
    return Note(parsed.text, tuple(one for one in parsed.signatures if (one.name, one.key_id) == own)).to_text()


def _unreadable(why: str) -> LedgerUnreadableError:
    return LedgerUnreadableError(
        "the folder is not a ledger in tiles that can be read",
        why=why,
        fix="get the folder again from the ledger's owner",
    )
