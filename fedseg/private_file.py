"""Files that only their owner can read, on the disk before anybody goes on. What fails is an OSError: the caller knows
what the file was for.
"""

import os
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_new(path: Path, data: bytes) -> None:
    """Write a new file.

    Raises:
        OSError: If it cannot be written, then nothing of it is left; or, a FileExistsError, if it is there already.
    """
    with _exclusive(path) as file:
        try:
            file.write(data)
            _flush(file)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


@contextmanager
def replacing(path: Path, hand_over: Callable[[Path], None] | None = None) -> Generator[BinaryIO]:
    """The file that takes the place of `path` when the block ends; if it fails, the earlier one stays as it was.

    Args:
        path: Any file, there or not.
        hand_over: Gives the new file to whoever is to own it.

    Raises:
        OSError: If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with _exclusive(draft) as file:
            yield file
            _flush(file)
        if hand_over is not None:
            hand_over(draft)
        draft.replace(path)
        sync_directory(path.parent)
    finally:
        # Whatever went wrong before says more than this would.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def nameless(folder: Path) -> int:
    """The descriptor of a new file in `folder` without a name: nobody else can open it, and it is gone once closed.

    Raises:
        OSError: If there can be none.
    """
    with suppress(
        OSError
    ):  # some file systems only have files with names; if it was for another cause, it stands below
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path = folder / f".{secrets.token_hex(16)}.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        path.unlink()
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def destroy(path: Path) -> None:
    """Overwrite a file with zeros, then remove it. What a disk keeps of overwritten files is out of reach.

    Raises:
        OSError: If that fails; it may be there still, overwritten or not.
    """
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        _flush(file)
    path.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in directory `path` are on the disk, so that a new file survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exclusive(path: Path) -> BinaryIO:
    # The mode is set at birth: there is no moment at which others could open the file.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
