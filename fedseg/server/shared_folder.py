"""`SharedFolder`: a directory in which several processes, often of two users, change small files without harm.

Changes are made under a lock on the directory. A file is replaced in one step, so a reader sees the old or the new one,
and a crash leaves one of them. What root makes belongs to the directory's owner, who could not use it otherwise.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from fedseg.errors import StorageError

LOCK_SECONDS = 10.0
"""Longest wait for another process to be done with a change, which takes milliseconds."""
READ_BYTES_MAX = 1024 * 1024
"""Nothing that is kept in such a directory is longer, so nothing more is read."""


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A directory, and what may be done in it."""

    path: Path

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Be the only one to change anything for the length of the block, which must be short.

        Raises:
            StorageError: If another process has held it for `LOCK_SECONDS`.
        """
        with _opened(self.path, os.O_RDONLY | os.O_DIRECTORY) as folder:
            if not _take(folder, fcntl.LOCK_EX, LOCK_SECONDS):
                raise StorageError(
                    f"{self.path} cannot be changed now",
                    why=f"another process has held it for {LOCK_SECONDS:g} s",
                    fix=f"see who: fuser -v {self.path}",
                )
            yield

    @contextlib.contextmanager
    def occupied(self, name: str) -> Generator[bool]:
        """Hold the lock file `name` for the length of the block; False if another process holds it, after a wait."""
        with _opened(self.path / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK) as lock:
            yield _take(lock, fcntl.LOCK_EX, LOCK_SECONDS)

    def is_occupied(self, name: str) -> bool:
        """Whether a process holds the lock file `name` now. The lock of a killed one has ended with it."""
        try:
            with _opened(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as lock:
                return not _take(lock, fcntl.LOCK_SH, 0)
        except FileNotFoundError:
            return False

    def make(self, name: str) -> None:
        """Make a directory in it, unless it is there; it may be another user's, so what is given away is what was made.

        Raises:
            StorageError: If something else has taken the new directory's place meanwhile.
        """
        with _opened(self.path, os.O_RDONLY | os.O_DIRECTORY) as folder:
            try:
                os.mkdir(name, 0o755, dir_fd=folder)
            except FileExistsError:
                return
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(name, flags, dir_fd=folder)
            try:
                if os.fstat(made).st_uid != os.geteuid():
                    raise StorageError(
                        f"{self.path / name} is not the directory that was made there",
                        why="another process has put its own in that place",
                        fix=f"see what runs as the owner of {self.path}",
                    )
                self._give(made)
            finally:
                os.close(made)

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            OSError: If it cannot be read, or is a link or no plain file: its owner neither leads root elsewhere nor
                keeps it waiting.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with _opened(self.path / name, flags) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file", str(self.path / name))
            return file.read(READ_BYTES_MAX)

    def write(self, name: str, content: bytes) -> None:
        """Replace the file `name` (DIRECTORY/FILE), and wait until the disk holds it; only inside `locked`.

        Links are not followed: the directory may be another user's, and this process root's.
        """
        place = self.path / name
        part = f".{place.name}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _opened(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as folder:
            with contextlib.suppress(FileNotFoundError):  # left by a killed process: under the lock it is nobody's
                os.unlink(part, dir_fd=folder)
            with os.fdopen(os.open(part, flags, 0o644, dir_fd=folder), "wb") as made:
                made.write(content)
                made.flush()
                self._give(made.fileno())
                os.fsync(made.fileno())
            os.replace(part, place.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def _give(self, made: int) -> None:
        """Give an open file or directory to the owner of this one; never a path, which may lead elsewhere by then."""
        if os.geteuid() == 0:
            owner = self.path.stat()
            os.fchown(made, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Generator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int, seconds: float) -> bool:
    """Lock an open file or directory, which ends when it is closed; False if it is held for that long."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True
