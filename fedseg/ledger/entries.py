"""Entries of a log and the history they make: pure values, checked as they are read.

An entry's stored form is the canonical JSON of `{"body": {...}, "kind": "...", "seq": n}`. A body may refer to one
payload (bytes kept beside the log, such as what was sent) as `"payload": {"id": "...", "sha256": "..."}`; each payload
belongs to exactly one entry, so the tree covers every byte the ledger keeps.
"""

import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical, sha256_hex
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import Tree, leaf_hash
from fedseg.ledger.notes import check_name

FORMAT_VERSION = 1
GENESIS = "genesis"
"""The kind of entry 0, and of no other."""
KEY_CHANGE = "key_change"
"""The kind of an entry that replaces the log's key (`key_change.py`)."""
ENTRY_LIMIT_BYTES = 65_535
"""Most bytes of one entry (c2sp.org/tlog-tiles); larger things are payloads."""
PAYLOAD_LIMIT_BYTES = 64 * 1024 * 1024
"""Most bytes of one payload; readers refuse more."""
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PAYLOAD_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIX = "restore the ledger from a copy that verifies, and find out who changed this one"


@dataclass(frozen=True, slots=True)
class PayloadReference:
    """Which payload belongs to an entry, and the SHA-256 its bytes must have."""

    id: str
    sha256: str

    def __post_init__(self) -> None:
        if not _PAYLOAD_ID.fullmatch(self.id):
            raise ValueError("a payload id has 1 to 128 letters, digits and . _ : -")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("a payload's sha256 is 64 lowercase hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a log, in its place."""

    seq: int
    """Position in the log, from 0."""
    kind: str
    """What sort of fact; the layers above give it meaning."""
    body: Mapping[str, Json]
    """The fact. To be read only: entries are shared by everyone who reads the same journal."""
    _stored: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """The stored form, if the entry was read from it."""

    def __post_init__(self) -> None:
        if self.seq < 0:
            raise ValueError(f"an entry's seq cannot be negative, got {self.seq}")
        if not _KIND.fullmatch(self.kind):
            raise ValueError("an entry's kind is a letter and up to 63 letters, digits and . _ -")

    @property
    def payload(self) -> PayloadReference | None:
        """The payload the body refers to, if any.

        Raises:
            ValueError: If the body's `payload` is not such a reference.
        """
        if "payload" not in self.body:
            return None
        match self.body["payload"]:
            case {"id": str(id_), "sha256": str(sha256), **rest} if not rest:
                return PayloadReference(id_, sha256)
            case _:
                raise ValueError("an entry's payload must be an id and a sha256")

    def to_bytes(self) -> bytes:
        """The stored form, which is the Merkle leaf.

        Raises:
            ValueError: If the body is not JSON without floats, or the whole is longer than `ENTRY_LIMIT_BYTES`.
        """
        if self._stored is not None:
            return self._stored
        data = canonical({"seq": self.seq, "kind": self.kind, "body": dict(self.body)})
        if len(data) > ENTRY_LIMIT_BYTES:
            raise ValueError(f"an entry has at most {ENTRY_LIMIT_BYTES} bytes, got {len(data)}; use a payload")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The entry whose stored form is exactly `data`.

        Raises:
            ValueError: If `data` is not the stored form of any entry.
        """
        if len(data) > ENTRY_LIMIT_BYTES:
            raise ValueError(f"an entry has at most {ENTRY_LIMIT_BYTES} bytes, got {len(data)}")
        match parse_canonical(data):
            # `bool` is an `int` to Python: true would otherwise pass for 1.
            case {"seq": int(seq), "kind": str(kind), "body": dict(body), **rest} if not (
                rest or isinstance(seq, bool)
            ):
                entry = cls(seq, kind, body)
            case _:
                raise ValueError("an entry must have a seq, a kind and a body, and nothing else")
        _ = entry.payload
        object.__setattr__(entry, "_stored", data)
        return entry


class History:
    """A log's entries from the first on, with their tree and the payloads they refer to. Immutable.

    Histories of one log share one growing record and see as much of it as their size says, so adding an entry costs
    O(log size). Only who adds to a history that is not the longest any more pays for a record of its own.
    """

    __slots__ = ("_record", "size")

    size: int
    """Number of entries."""

    def __init__(self) -> None:
        self.size = 0
        self._record = _Record()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in order."""
        return tuple(self.since(0))

    @property
    def first(self) -> Entry:
        """Entry 0, which must be there."""
        return self._record.entries[0]

    @property
    def last(self) -> Entry:
        """The newest entry, which must be there."""
        return self._record.entries[self.size - 1]

    def since(self, seq: int) -> list[Entry]:
        """The entries from number `seq` on."""
        return self._record.entries[seq : self.size]

    @property
    def key_changes(self) -> list[Entry]:
        """The entries by which the log's key was replaced, in order."""
        changes = self._record.key_changes
        return [self._record.entries[seq] for seq in changes[: bisect_left(changes, self.size)]]

    @property
    def payloads(self) -> Mapping[str, str]:
        """Payload id to the SHA-256 its bytes must have."""
        return {id_: vouched.sha256 for id_, vouched in self._record.payloads.items() if vouched.seq < self.size}

    def payload_sha256(self, id_: str) -> str | None:
        """The SHA-256 that the bytes of the payload `id_` must have; None if no entry refers to it."""
        vouched = self._record.payloads.get(id_)
        return vouched.sha256 if vouched is not None and vouched.seq < self.size else None

    def root(self, size: int | None = None) -> bytes:
        """The Merkle root over the first `size` entries; over all by default."""
        return self._record.tree.root(self._at_most(size))

    def subtree(self, level: int, index: int) -> bytes:
        """As `merkle.Tree.subtree`."""
        return self._record.tree.subtree(level, index)

    def inclusion_proof(self, seq: int, size: int | None = None) -> list[bytes]:
        """As `merkle.Tree.inclusion_proof`, of the entry `seq` in the first `size`; in all by default."""
        return self._record.tree.inclusion_proof(seq, self._at_most(size))

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """As `merkle.Tree.consistency_proof`, from the first `old_size` entries to all."""
        return self._record.tree.consistency_proof(old_size, self.size)

    def extended(self, leaves: Iterable[bytes]) -> "History":
        """This history with the entries stored as `leaves` added.

        Raises:
            VerificationError: If a leaf is not an entry, is out of place, is a second genesis (or the first is none),
                or refers to a payload that another entry refers to.
        """
        return self._extended(_parsed(leaves, self.size))

    def with_entries(self, entries: Iterable[Entry]) -> "History":
        """This history with `entries` added.

        Raises:
            VerificationError: As `extended`; also if an entry has no canonical form.
        """
        return self._extended(entries)

    def check_payload(self, id_: str, data: bytes | None) -> bytes:
        """`data`, which was stored for the payload `id_` that this history refers to.

        Raises:
            VerificationError: If it is missing or not what the entry vouches for.
        """
        if data is None or sha256_hex(data) != self.payload_sha256(id_):
            raise _broken("a payload is missing or was changed after its entry was signed")
        return data

    def _extended(self, entries: Iterable[Entry]) -> "History":
        longer = History()
        longer._record, longer.size = self._record.extended(self.size, entries)
        return longer

    def _at_most(self, size: int | None) -> int:
        if size is not None and not 0 <= size <= self.size:
            raise ValueError(f"a history of {self.size} entries never had {size}")
        return self.size if size is None else size


@dataclass(frozen=True, slots=True)
class _Vouched:
    """A payload's hash, and which entry says so."""

    sha256: str
    seq: int


class _Record:
    """What histories of one log share: it grows at its end, and nothing in it changes."""

    __slots__ = ("_growing", "_unfinished", "entries", "key_changes", "payloads", "tree")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.payloads: dict[str, _Vouched] = {}
        self.key_changes: list[int] = []
        """Places of the entries that replace the key."""
        self.tree = Tree()
        self._growing = threading.Lock()
        self._unfinished = False

    def extended(self, size: int, entries: Iterable[Entry]) -> tuple["_Record", int]:
        """A record that begins with the first `size` entries and these, and how many that is.

        It is this one, if it ends there; else one of its own.
        """
        # Nobody ever waits here: a fork may have copied the lock while another thread held it.
        if self._growing.acquire(blocking=False):
            try:
                if size == len(self.entries) and not self._unfinished:
                    # Whatever interrupts this, a signal too, leaves a record that is read and not grown any more.
                    self._unfinished = True
                    self._add(entries)
                    self._unfinished = False
                    return self, len(self.entries)
            finally:
                self._growing.release()
        record = _Record()
        record.entries = self.entries[:size]
        record.payloads = {id_: vouched for id_, vouched in tuple(self.payloads.items()) if vouched.seq < size}
        record.key_changes = self.key_changes[: bisect_left(self.key_changes, size)]
        record.tree = self.tree.prefix(size)
        record._add(entries)
        return record, len(record.entries)

    def _add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            seq = len(self.entries)
            try:
                leaf, reference = entry.to_bytes(), entry.payload
            except ValueError as error:
                raise _not_canonical(seq) from error
            if entry.seq != seq:
                raise _broken(f"entry {seq} says it is number {entry.seq}")
            if (entry.kind == GENESIS) != (seq == 0):
                raise _broken("the first entry, and only the first, must be the genesis")
            if reference is not None:
                if reference.id in self.payloads:
                    raise _broken(f"entry {seq} refers to the payload of another entry")
                self.payloads[reference.id] = _Vouched(reference.sha256, seq)
            if entry.kind == KEY_CHANGE:
                self.key_changes.append(seq)
            self.tree.append(leaf_hash(leaf))
            self.entries.append(entry)


def _parsed(leaves: Iterable[bytes], seq: int) -> Iterator[Entry]:
    for place, leaf in enumerate(leaves, start=seq):
        try:
            yield Entry.from_bytes(leaf)
        except ValueError as error:
            raise _not_canonical(place) from error


@dataclass(frozen=True, slots=True)
class Genesis:
    """What entry 0 says about the log itself."""

    origin: str
    public_key: PublicKey
    """The log's first key."""

    @classmethod
    def of(cls, history: History) -> Self:
        """The genesis of `history`.

        Raises:
            VerificationError: If there is no entry, or the first is not a genesis of this format version.
        """
        if not history.size:
            raise _broken("it has no entries")
        match history.first.body:
            case {"origin": str(origin), "public_key": str(text), "format_version": int(version)}:
                pass
            case _:
                raise _broken("its genesis lacks origin, public key or format version")
        if isinstance(version, bool) or version != FORMAT_VERSION:
            raise _broken(f"its genesis is of another format version than {FORMAT_VERSION}")
        try:
            check_name(origin)
            return cls(origin, PublicKey.from_text(text))
        except ValueError as error:
            raise _broken("its genesis has a malformed origin or public key") from error

    def entry(self, body: Mapping[str, Json]) -> Entry:
        """Entry 0: `body` and what this says.

        Raises:
            ValueError: If `body` uses a key that is ours.
        """
        ours: dict[str, Json] = {
            "origin": self.origin,
            "public_key": self.public_key.to_text(),
            "format_version": FORMAT_VERSION,
        }
        taken = sorted({*ours, "payload"} & set(body))
        if taken:
            raise ValueError(f"a genesis body may not hold {', '.join(taken)}")
        check_name(self.origin)
        return Entry(0, GENESIS, {**body, **ours})


def _not_canonical(seq: int) -> VerificationError:
    return _broken(f"entry {seq} is not in its one canonical form")


def _broken(why: str) -> VerificationError:
    return VerificationError("the ledger does not check out", why=why, fix=_FIX)
