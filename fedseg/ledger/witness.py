"""`Witness`: what somebody remembers of other people's logs, and says so by cosignature (c2sp.org/tlog-witness).

WITNESS/witness.key     the key that cosigns, and nothing else
WITNESS/witness.json    the witness's name, the logs it watches, and the newest checkpoint it has cosigned of each

A witness cosigns a checkpoint only if it extends the one it cosigned before. Looking, writing and signing happen under
one lock, and what was seen is on the disk before anybody gets the signature: a witness that is killed at any moment has
never promised what it does not remember. It never asks anybody anything.
"""

import fcntl
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fedseg.errors import SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT, verify_consistency
from fedseg.ledger.notes import Note, SignatureType, parse_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.private_file import replacing, write_new

REQUEST_LIMIT_BYTES: Final = 64 * 1024
"""Longest request that is read."""
STATE_LIMIT_BYTES: Final = 64 * 1024 * 1024
LOGS_MAX: Final = 1_000
KEY_FILE: Final = "witness.key"
STATE_FILE: Final = "witness.json"
_LOCK_FILE: Final = "witness.lock"
_KIND: Final = "fedseg-witness"
_KEYS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers to `add-checkpoint`."""

    status: HTTPStatus
    body: str
    """With 200 the cosignature, a line; with 409 the size that the witness knows, a line; else why not."""
    contradicted: tuple[str, str] | None = None
    """Two checkpoints of one size and different roots that the log has signed: the one seen before and the new one."""


@dataclass(frozen=True, slots=True)
class WatchedLog:
    """A log, and what its witness has cosigned of it."""

    origin: str
    keys: tuple[VerifierKey, ...]
    """Whose signature is taken; the newest last."""
    note: str = ""
    """The newest checkpoint that was cosigned: the log's signature, then the witness's. Nothing before the first."""

    def __post_init__(self) -> None:
        if not 0 < len(self.keys) <= _KEYS_MAX or any(key.name != self.origin for key in self.keys):
            raise ValueError(f"a log has 1 to {_KEYS_MAX} keys, all of its own name")
        if self.note:
            said = parse_checkpoint(open_signed(self.note, self.keys).text)
            if said.origin != self.origin:
                raise ValueError("the remembered checkpoint is of another log")

    @property
    def newest(self) -> Checkpoint:
        """What was cosigned last; the empty log before the first."""
        return parse_checkpoint(parse_note(self.note).text) if self.note else Checkpoint(self.origin, 0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness's directory. Made by `create` or `open`; every operation reads what is on the disk now."""

    path: Path
    key: SigningKey
    name: str

    @classmethod
    def create(cls, path: Path, name: str, key: SigningKey) -> "Witness":
        """A new witness that watches no log yet.

        Raises:
            KeyFileError, StorageError: If one is there already, or it cannot be written.
            ValueError: If `name` cannot be a key's name.
        """
        made = cls(path, key, name)
        _ = made.verifier_key
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (path / KEY_FILE).exists():
                if _is_unused(path):
                    (path / STATE_FILE).unlink(missing_ok=True)  # of one that was interrupted before it had a key
                write_new(path / STATE_FILE, _to_json(name, {}))
            key.save(path / KEY_FILE)  # which replaces none
        except OSError as error:
            raise _unwritable(path, error) from error
        return made

    @classmethod
    def open(cls, path: Path) -> "Witness":
        """The witness in a directory.

        Raises:
            KeyFileError: If its key is missing or others may read it.
            SettingsError: If what it remembers is missing or was changed: it must not begin anew.
        """
        name, _ = _read(path)
        return cls(path, SigningKey.load(path / KEY_FILE), name)

    @property
    def verifier_key(self) -> VerifierKey:
        """Name and key, as policies name witnesses."""
        return VerifierKey(self.name, SignatureType.ED25519_COSIGNATURE, self.key.public)

    def logs(self) -> Mapping[str, WatchedLog]:
        """The logs it watches, by origin.

        Raises:
            SettingsError: As `open`.
        """
        return _read(self.path)[1]

    def enrol(self, *keys: VerifierKey) -> None:
        """Watch the logs that these keys sign from now on; of a log that is watched, take this key's word too.

        Raises:
            SettingsError: If a key signs no log, is the witness's own, or there are too many.
            StorageError: If it cannot be written.
        """
        with self._changing() as logs:
            for key in keys:
                if key.type is not SignatureType.ED25519 or key.public_key == self.key.public:
                    raise _not_enrolled("it is not a key with which another's log signs its checkpoints")
                known = logs.get(key.name, WatchedLog(key.name, (key,)))
                more = known.keys if key in known.keys else (*known.keys, key)
                if len(more) > _KEYS_MAX or len(logs.keys() | {key.name}) > LOGS_MAX:
                    raise _not_enrolled(f"a witness watches {LOGS_MAX} logs of {_KEYS_MAX} keys at most")
                logs[key.name] = replace(known, keys=more)

    def add_checkpoint(self, request: bytes, now: datetime) -> Answer:
        """Answer an `add-checkpoint` request as c2sp.org/tlog-witness says.

        200 with the cosignature, of which the record is on the disk already; 400 if it cannot be read, or the old size
        is above the new; 403 if no key of the log has signed; 404 if the log is not watched; 409 with the size that is
        known, if the old size is another, or at the same size the root is; 422 if the proof does not show growth.

        Raises:
            SettingsError, StorageError: If what it remembers cannot be read or written; then nothing was cosigned.
        """
        if len(request) > REQUEST_LIMIT_BYTES:
            return Answer(HTTPStatus.BAD_REQUEST, f"a request has at most {REQUEST_LIMIT_BYTES} bytes\n")
        try:
            proof = ConsistencyProof.from_text(request.decode("utf-8"))
            new = parse_checkpoint(parse_note(proof.note).text)
        except UnicodeDecodeError:
            return Answer(HTTPStatus.BAD_REQUEST, "it is not text\n")
        except VerificationError as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error.why}\n")
        with self._changing() as logs:
            if new.origin not in logs:
                return Answer(HTTPStatus.NOT_FOUND, "this log is not watched here\n")
            known = logs[new.origin]
            answer = _judge(known, proof, new)
            if answer is None:
                kept = _of_log(proof.note, known)
                note = cosign(kept, self.name, self.key, now)
                logs[new.origin] = replace(known, note=note)
                answer = Answer(HTTPStatus.OK, note.removeprefix(kept))
        # Here the record is on the disk: before, nobody gets to see the signature.
        return answer

    @contextmanager
    def _changing(self) -> Generator[dict[str, WatchedLog]]:
        """The watched logs, to be changed while nobody else can; written when the block ends, if they were."""
        with _locked(self.path):
            name, before = _read(self.path)
            logs = dict(before)
            yield logs
            if logs != before:
                try:
                    with replacing(self.path / STATE_FILE) as file:
                        file.write(_to_json(name, logs))
                except OSError as error:
                    raise _unwritable(self.path, error) from error


def _judge(known: WatchedLog, proof: ConsistencyProof, new: Checkpoint) -> Answer | None:
    """Why `new` is not cosigned; None if it is."""
    try:
        open_signed(proof.note, known.keys)
    except VerificationError as error:
        return Answer(HTTPStatus.FORBIDDEN, f"{error.why}\n")
    if proof.old_size > new.size:
        return Answer(HTTPStatus.BAD_REQUEST, "the old size is above the checkpoint's\n")
    seen = known.newest
    contradicted = None
    if seen.size == new.size and seen.root != new.root:
        # Both are signed: whoever has the two can prove it to anybody.
        contradicted = (_of_log(known.note, known), _of_log(proof.note, known)) if known.note else None
    if proof.old_size != seen.size or (new.size == seen.size and new.root != seen.root):
        return Answer(HTTPStatus.CONFLICT, f"{seen.size}\n", contradicted)
    if not verify_consistency(seen.size, seen.root, new.size, new.root, proof.hashes):
        return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "the proof does not show that the log has only grown\n")
    return None


def _of_log(note: str, known: WatchedLog) -> str:
    """The note with one signature: the log's, which was found to be right."""
    parsed, wanted = parse_note(note), {(key.name, key.id) for key in known.keys}
    return Note(parsed.text, tuple(one for one in parsed.signatures if (one.name, one.key_id) in wanted)[:1]).to_text()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    try:
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _to_json(name: str, logs: Mapping[str, WatchedLog]) -> bytes:
    rows: list[Json] = [
        {"origin": one.origin, "keys": [key.to_text() for key in one.keys], "note": one.note}
        for _, one in sorted(logs.items())
    ]
    return canonical({"kind": _KIND, "version": 1, "name": name, "logs": rows}) + b"\n"


def _is_unused(path: Path) -> bool:
    """Whether what is remembered is nothing: no log was ever watched."""
    try:
        return not _read(path)[1]
    except SettingsError:
        return not (path / STATE_FILE).exists()


def _read(path: Path) -> tuple[str, dict[str, WatchedLog]]:
    try:
        with (path / STATE_FILE).open("rb") as file:
            data = file.read(STATE_LIMIT_BYTES)
        return _parse(data)
    except OSError as error:
        raise _lost(path, error.strerror or "it cannot be read") from error
    except (ValueError, VerificationError) as error:
        raise _lost(path, str(error)) from error


def _parse(data: bytes) -> tuple[str, dict[str, WatchedLog]]:
    match parse_canonical(data.removesuffix(b"\n")):
        case {"kind": kind, "version": 1, "name": str(name), "logs": list(rows), **rest} if kind == _KIND and not rest:
            logs = [_parse_log(row) for row in rows]
            return name, {one.origin: one for one in logs}
        case _:
            raise ValueError("it lacks its kind, its version, its name or its logs")


def _parse_log(row: Json) -> WatchedLog:
    match row:
        case {"origin": str(origin), "keys": list(keys), "note": str(note), **rest} if not rest:
            return WatchedLog(origin, tuple(VerifierKey.from_text(str(key)) for key in keys), note)
        case _:
            raise ValueError("a log in it lacks its origin, its keys or its note")


def _lost(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path / STATE_FILE} does not hold what a witness remembers",
        why=why,
        fix="restore its newest copy; if there is none, give up this key: a witness that forgets must not cosign again",
    )


def _not_enrolled(why: str) -> SettingsError:
    return SettingsError(
        "the log was not enrolled", why=why, fix="ask its owner: fedseg ledger checkpoint LEDGER --verifier-key"
    )


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written",
        why=error.strerror or "the disk refused",
        fix="check that it is there, its permissions and the free space",
    )
