"""Looking for what must not be there any more: a byte scan of every file of a unit for identifiers and pseudonyms.

It sees bytes as they stand in files: not inside compressed or encrypted ones, not what a disk keeps of deleted files.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from ahocorasick_rs import BytesAhoCorasick

from fedseg.errors import StorageError

_CHUNK_BYTES: Final = 64 * 1024 * 1024
_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz") | set(range(128, 256))
_SEEN: Final = 2
"""How many bytes on either side say whether something stands alone."""
_JOINERS: Final = frozenset(b"+-.@")
"""Between two word characters these make one word of both; at the end of a sentence they do not."""


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, in order; links are not followed."""
    return [one for one in sorted(folder.rglob("*")) if one.is_file() and not one.is_symlink()]


def find_leftovers(files: Iterable[Path], identifiers: Collection[bytes], pseudonyms: Collection[bytes]) -> list[Path]:
    """Those of the files that hold one of these.

    An identifier counts where it stands alone: customer-17 is not in customer-170, nor ann@example.com in
    joann@example.com. A pseudonym counts anywhere, as bytes and in hexadecimal.

    Args:
        files: Where to look.
        identifiers: Nonempty, as in the unit's source.
        pseudonyms: 16 bytes each.

    Raises:
        StorageError: If a file cannot be read: it may hold anything.
    """
    words = sorted(set(identifiers))
    searched = [*words, *pseudonyms, *(one.hex().encode() for one in pseudonyms)]
    machine, reach = BytesAhoCorasick(searched), max(map(len, searched), default=0) + _SEEN
    return [one for one in files if _holds(one, machine, len(words), reach)]


def _holds(path: Path, machine: BytesAhoCorasick, words: int, reach: int) -> bool:
    """Whether the file holds one of the patterns, of which the first `words` must stand alone."""
    return any(
        found >= words or (start >= _SEEN and end <= len(chunk) - _SEEN and _stands_alone(chunk, start, end))
        for chunk in _chunks(path, reach)
        for found, start, end in machine.find_matches_as_indexes(chunk, overlapping=True)
    )


def _stands_alone(text: bytes, start: int, end: int) -> bool:
    before, after = text[start - _SEEN : start][::-1], text[end : end + _SEEN]
    return not _joins(before) and not _joins(after)


def _joins(neighbours: bytes) -> bool:
    """Whether a word goes on with these bytes, the nearest first."""
    nearest, next_one = neighbours
    return nearest in _WORD or (nearest in _JOINERS and next_one in _WORD)


def _chunks(path: Path, reach: int) -> Iterator[bytes]:
    """The file between blanks, in pieces that overlap by what the longest pattern and its neighbours take."""
    try:
        with path.open("rb") as file:
            tail = b" " * _SEEN
            while piece := file.read(_CHUNK_BYTES):
                yield tail + piece
                tail = (tail + piece)[-2 * reach :]
            yield tail + b" " * _SEEN
    except FileNotFoundError:
        return  # gone since it was listed, as files for a moment are
    except OSError as error:
        raise StorageError(
            "not every file of the unit could be looked through",
            why=f"{path}: {error.strerror or 'unknown cause'}",
            fix="let the unit's user read it, then run the same command again",
        ) from error
