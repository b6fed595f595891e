"""The directory of a server or node: made as a whole or not at all, given to its users, never overwritten."""

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from fedseg.deploy.users import Account
from fedseg.errors import DeploymentError
from fedseg.private_file import sync_directory

SOCKET_BYTES_MAX = 107
"""Longest path of a Unix socket, in bytes (sun_path in unix(7), less its end mark)."""

LONGEST_SOCKET = "supervisor/supervisor.sock.1234567"
"""The longest such path below a directory: the supervisor puts its process id behind the name while it starts."""

_PORTABLE = re.compile(r"[A-Za-z0-9_./+@=,~-]+")
"""What needs no quoting in any file of ours, the proxy's and the supervisor's."""


def require_usable(path: Path) -> None:
    """Check that a directory of this name can hold a deployment.

    Raises:
        DeploymentError: If its path has other characters than the files about it can hold, or is too long for sockets.
    """
    if not _PORTABLE.fullmatch(str(path)):
        raise DeploymentError(
            f"{path} cannot be the directory of a server or node",
            why="its path may hold letters, digits and _ . / + @ = , ~ - alone",
            fix="choose another directory, such as /srv/fedseg",
        )
    most = SOCKET_BYTES_MAX - len(LONGEST_SOCKET) - 1
    if len(os.fsencode(path)) > most:
        raise DeploymentError(
            f"{path} cannot be the directory of a server or node",
            why=f"its path has {len(os.fsencode(path))} bytes, and the sockets below it leave room for {most}",
            fix="choose a shorter path, such as /srv/fedseg",
        )


@contextlib.contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """A directory to fill, which becomes `path` when the block ends well; otherwise nothing is left of it.

    Raises:
        DeploymentError: If `path` exists and is not empty, or the directory around it does not exist.
    """
    require_usable(path)
    if not path.parent.is_dir():
        raise DeploymentError(
            f"{path} cannot be made", why=f"there is no directory {path.parent}", fix=f"mkdir -p {path.parent}"
        )
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise DeploymentError(
            f"{path} is there already",
            why="nothing is ever overwritten",
            fix="choose another directory, or move it away",
        )
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.mkdir(mode=0o700)
    try:
        yield part
        part.chmod(0o755)
        part.rename(path)
        sync_directory(path.parent)
    finally:
        if part.exists():
            shutil.rmtree(part)


def make(path: Path, owner: Account, mode: int = 0o700, *, group: int | None = None) -> Path:
    """Make one directory below a deployment, of this owner and mode; its group is the owner's unless told otherwise."""
    path.mkdir(mode=0o700)
    os.chown(path, owner.uid, owner.gid if group is None else group)
    path.chmod(mode)  # last: a change of owner clears the set-group-ID bit
    return path


def write_new(path: Path, content: bytes, owner: Account, mode: int = 0o600) -> Path:
    """Write one file of this owner and mode that was not there before, and wait until the disk holds it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), owner.uid, owner.gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    return path


def replace(path: Path, content: bytes, owner: Account, mode: int = 0o600) -> None:
    """Replace one file in one step: its readers see the old or the new one."""
    part = write_new(path.with_name(f".{path.name}.{secrets.token_hex(4)}"), content, owner, mode)
    part.replace(path)
    sync_directory(path.parent)


def give(path: Path, owner: Account) -> None:
    """Give everything below `path` to `owner`, and to nobody else: directories 0700, files 0600. Follows no links."""
    for folder, _, files in os.walk(path):
        os.chown(folder, owner.uid, owner.gid)
        Path(folder).chmod(0o700)
        for name in files:
            os.chown(Path(folder, name), owner.uid, owner.gid, follow_symlinks=False)
            Path(folder, name).chmod(0o600)


def read_small(path: Path, limit: int = 65_536) -> bytes:
    """The content of a small file that belongs to a less trusted user.

    Raises:
        OSError: If it cannot be read, or is a link or no regular file: nobody leads us elsewhere or makes us wait.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(limit)
