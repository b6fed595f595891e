"""A ledger's key in its file, and the one that is to replace it beside it until the ledger says so.

The new key is on the disk before the ledger names it, and takes the old one's place only afterwards. So a process that
dies in between leaves the key in force in one of the two files, and the ledger says in which.
"""

from collections.abc import Callable
from pathlib import Path

from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.private_file import sync_directory


def next_key_path(path: Path) -> Path:
    """Where the key is kept that is to replace the one in `path`: `unit.next.key` beside `unit.key`."""
    return path.with_name(f"{path.stem}.next{path.suffix}")


def load_keys(path: Path) -> tuple[SigningKey, ...]:
    """The key in `path`, and the one that is to replace it, if there is one: one of them is in force.

    Raises:
        KeyFileError: If a file is missing, readable by group or others, or holds no such key.
    """
    following = next_key_path(path)
    # The next one first: should it move into its place meanwhile, it is found there.
    found = (SigningKey.load(following),) if following.exists() else ()
    return (SigningKey.load(path), *found)


def save_next_key(path: Path, key: SigningKey, hand_over: Callable[[Path], None]) -> None:
    """Keep the key that is to replace the one in `path` safely beside it, as a whole or not at all.

    Args:
        path: Where the key in force is.
        key: The new one.
        hand_over: Gives its file to whoever is to own it.

    Raises:
        StorageError, OSError: If it cannot be written, or there is such a key already.
    """
    following, draft = next_key_path(path), _draft(path)
    draft.unlink(missing_ok=True)
    key.save(draft)
    hand_over(draft)
    # Unlike a rename, a link never takes another's place.
    following.hardlink_to(draft)
    draft.unlink()
    sync_directory(path.parent)


def settle_keys(path: Path, in_force: PublicKey) -> None:
    """Leave the key in force alone, in `path`. To be called while nobody can write to the ledger, or it could change.

    The old key's file is written over in its directory: no file of it is left, though the disk may keep its bytes.

    Raises:
        KeyFileError: If a file is not what it must be.
        OSError: If the files cannot be changed.
    """
    following = next_key_path(path)
    _draft(path).unlink(missing_ok=True)
    if not following.exists():
        return
    if SigningKey.load(following).public == in_force:
        following.replace(path)
    else:
        following.unlink()
    sync_directory(path.parent)


def _draft(path: Path) -> Path:
    following = next_key_path(path)
    return following.with_name(f"{following.name}.part")
