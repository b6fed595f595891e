"""Looking for what must not be there any more: a byte scan of every file of a unit for identifiers and pseudonyms.

It sees bytes as they stand in files: not inside compressed or encrypted ones, not what a disk keeps of deleted files.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from ahocorasick_rs import BytesAhoCorasick

from fedseg.errors import StorageError

SHORT_BYTES: Final = 8
"""An identifier shorter than this counts where it stands alone only: its digits may be part of any number."""
_CHUNK_BYTES: Final = 64 * 1024 * 1024
_WORD: Final = frozenset(b"0123456789.ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, in order; links are not followed."""
    return [one for one in sorted(folder.rglob("*")) if one.is_file() and not one.is_symlink()]


def find_leftovers(files: Iterable[Path], needles: Collection[bytes]) -> list[Path]:
    """Those of the files that hold one of these nonempty needles.

    Raises:
        StorageError: If a file cannot be read: it may hold anything.
    """
    searched = sorted(set(needles))
    machine, reach = BytesAhoCorasick(searched), max(map(len, searched), default=1) + 1
    return [one for one in files if _holds(one, machine, searched, reach)]


def _holds(path: Path, machine: BytesAhoCorasick, needles: list[bytes], reach: int) -> bool:
    return any(
        len(needles[found]) >= SHORT_BYTES or _stands_alone(chunk, start, end)
        for chunk in _chunks(path, reach)
        for found, start, end in machine.find_matches_as_indexes(chunk, overlapping=True)
    )


def _stands_alone(text: bytes, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else b"", text[end : end + 1]
    return not (before and before[0] in _WORD) and not (after and after[0] in _WORD)


def _chunks(path: Path, reach: int) -> Iterator[bytes]:
    """The file in pieces that overlap by what the longest needle and its neighbours take."""
    try:
        with path.open("rb") as file:
            tail = b""
            while piece := file.read(_CHUNK_BYTES):
                yield tail + piece
                tail = piece[-reach:]
    except FileNotFoundError:
        return  # gone since it was listed, as files for a moment are
    except OSError as error:
        raise StorageError(
            "not every file of the unit could be looked through",
            why=f"{path}: {error.strerror or 'unknown cause'}",
            fix="let the unit's user read it, then run the same command again",
        ) from error
