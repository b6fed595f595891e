"""What an auditor remembers from one audit to the next: the newest checkpoint seen of each log, as its owner signed it.

Signatures cannot tell an old copy from the newest, nor one history from another that the same key signed for somebody
else. Memory can: a log only grows.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fedseg.errors import SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.private_file import sync_directory

_KIND = "fedseg-remembered-checkpoints"
_LIMIT_BYTES = 16 * 1024 * 1024


class LogId(NamedTuple):
    """A log is a name and its first key: other federations have logs of the same name."""

    origin: str
    public_key: str
    """As text; the same for ever, whatever key the log has now."""


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note that proves it."""

    checkpoint: Checkpoint
    note: str
    public_key: PublicKey
    """Which key has signed it: the log's first, or one that has replaced it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The newest checkpoint seen of each log."""

    seen: Mapping[LogId, SignedCheckpoint] = field(default_factory=dict[LogId, SignedCheckpoint])

    def keys_of(self, origin: str) -> set[str]:
        """The keys that logs of this name were seen with."""
        return {log.public_key for log in self.seen if log.origin == origin}

    def with_newer(self, found: Iterable[tuple[LogId, SignedCheckpoint]]) -> "Memory":
        """This memory after having seen these too."""
        seen = dict(self.seen)
        for log, one in found:
            if log not in seen or one.checkpoint.size > seen[log].checkpoint.size:
                seen[log] = one
        return Memory(seen)


def read_memory(path: Path) -> Memory:
    """What the file remembers; nothing if there is no file yet.

    Raises:
        SettingsError: If it is not what `write_memory` wrote, or holds what no log's key has signed.
        StorageError: If it cannot be read.
    """
    try:
        if not path.exists():
            return Memory()
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise _storage(path, error) from error
    try:
        return _parse(data)
    except (ValueError, VerificationError) as error:
        raise SettingsError(
            f"{path} does not hold remembered checkpoints",
            why=f"it was changed or is something else: {error}",
            fix="restore it from its backup; without it no older copy of a ledger can be told from the newest",
        ) from error


def write_memory(path: Path, memory: Memory) -> None:
    """Put the file in its place at once, so that it is never half a memory.

    Raises:
        StorageError: If it cannot be written; then the earlier one is still there.
    """
    rows: list[Json] = [
        {"note": one.note, "origin": log.origin, "public_key": log.public_key, **_signed_by(log, one)}
        for log, one in sorted(memory.seen.items())
    ]
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(canonical({"kind": _KIND, "version": 1, "logs": rows}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _storage(path, error) from error


def _signed_by(log: LogId, one: SignedCheckpoint) -> dict[str, Json]:
    """The key that has replaced the log's first; nothing where there is none, as in every earlier version."""
    signer = one.public_key.to_text()
    return {} if signer == log.public_key else {"signed_by": signer}


def _parse(data: bytes) -> Memory:
    match parse_canonical(data.removesuffix(b"\n")):
        case {"kind": kind, "version": 1, "logs": list(rows), **rest} if kind == _KIND and not rest:
            pass
        case _:
            raise ValueError("it lacks its kind, its version or its logs")
    seen: dict[LogId, SignedCheckpoint] = {}
    for row in rows:
        match row:
            case {"origin": str(origin), "public_key": str(key), "note": str(note), **more}:
                signer = PublicKey.from_text(str(more.get("signed_by", key)))
                seen[LogId(origin, key)] = SignedCheckpoint(open_checkpoint(note, signer, origin), note, signer)
            case _:
                raise ValueError("a log in it lacks its name, its key or its note")
    return Memory(seen)


def _storage(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be read or written",
        why=error.strerror or "the disk refused",
        fix="check the path, its permissions and the free space",
    )
