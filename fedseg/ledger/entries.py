"""Entries of a log and the history they make: pure values, checked as they are read.

An entry's stored form is the canonical JSON of `{"body": {...}, "kind": "...", "seq": n}`. A body may refer to one
payload (bytes kept beside the log, such as what was sent) as `"payload": {"id": "...", "sha256": "..."}`; each payload
belongs to exactly one entry, so the tree covers every byte the ledger keeps.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical, sha256_hex
from fedseg.ledger.checkpoint import check_name
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import Frontier, leaf_hash

FORMAT_VERSION = 1
GENESIS = "genesis"
"""The kind of entry 0, and of no other."""
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
        return entry


@dataclass(frozen=True, slots=True)
class History:
    """A log's entries from the first on, with their tree and the payloads they refer to."""

    entries: tuple[Entry, ...] = ()
    frontier: Frontier = field(default_factory=Frontier)
    payloads: Mapping[str, str] = field(default_factory=dict[str, str])
    """Payload id to the SHA-256 its bytes must have."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.entries)

    def extended(self, leaves: Iterable[bytes]) -> "History":
        """This history with the entries stored as `leaves` added.

        Raises:
            VerificationError: If a leaf is not an entry, is out of place, is a second genesis (or the first is none),
                or refers to a payload that another entry refers to.
        """
        entries, frontier, payloads = list(self.entries), self.frontier, dict(self.payloads)
        for leaf in leaves:
            seq = len(entries)
            try:
                entry = Entry.from_bytes(leaf)
                reference = entry.payload
            except ValueError as error:
                raise _broken(f"entry {seq} is not in its one canonical form") from error
            if entry.seq != seq:
                raise _broken(f"entry {seq} says it is number {entry.seq}")
            if (entry.kind == GENESIS) != (seq == 0):
                raise _broken("the first entry, and only the first, must be the genesis")
            if reference is not None:
                if reference.id in payloads:
                    raise _broken(f"entry {seq} refers to the payload of another entry")
                payloads[reference.id] = reference.sha256
            entries.append(entry)
            frontier = frontier.append(leaf_hash(leaf))
        return History(tuple(entries), frontier, payloads)

    def check_payload(self, id_: str, data: bytes | None) -> bytes:
        """`data`, which was stored for the payload `id_` that this history refers to.

        Raises:
            VerificationError: If it is missing or not what the entry vouches for.
        """
        if data is None or sha256_hex(data) != self.payloads[id_]:
            raise _broken("a payload is missing or was changed after its entry was signed")
        return data


@dataclass(frozen=True, slots=True)
class Genesis:
    """What entry 0 says about the log itself."""

    origin: str
    public_key: PublicKey

    @classmethod
    def of(cls, history: History) -> Self:
        """The genesis of `history`.

        Raises:
            VerificationError: If there is no entry, or the first is not a genesis of this format version.
        """
        if not history.entries:
            raise _broken("it has no entries")
        match history.entries[0].body:
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


def _broken(why: str) -> VerificationError:
    return VerificationError("the ledger does not check out", why=why, fix=_FIX)
