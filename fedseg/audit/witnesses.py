"""What can be said of a ledger's witnesses: by the ledger, verified, and by the cosigned checkpoints beside it. Pure.

A checkpoint beside a ledger can come from anybody, so none is believed: its size is bounded, the ledger's own key must
have signed it, and of the cosignatures only those count that hold by the keys in the policy in force. It says what a
witness had seen then: an older copy of a ledger has older ones beside it, and only their time tells.

No policy is about the server's ledger. Of it those are witnesses whom the units here name in their policies.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault
from fedseg.audit.proof import EquivocationProof
from fedseg.errors import NotWitnessedError, RolledBackError, VerificationError
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.entries import History
from fedseg.ledger.notes import Note, SignatureType, parse_note
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.privacy.entries import ReleaseBody
from fedseg.privacy.witnessed import open_own

NOTE_LIMIT_BYTES: Final = 64 * 1024
"""Longest cosigned checkpoint that is read."""
NO_WITNESS: Final = "no witness"
_AHEAD: Final = 1
"""So many releases are not covered where the policy is kept: the newest is cosigned after it has left."""


@dataclass(frozen=True, slots=True)
class WitnessLine:
    """One of a ledger's witnesses."""

    name: str
    """As the policy names it; of the server's ledger, as its key does."""
    key: str
    """Its verifier key (`name+id+key`), from the policy."""
    covers: int
    """How many of the ledger's entries the newest checkpoint covers that it has cosigned; 0 if it has cosigned none."""
    at: datetime | None
    """When it says that it did (UTC); None if it did not, or says no time that a calendar has."""


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How much of a ledger its witnesses have seen. The field names are keys of JSON output."""

    role: Literal["unit", "server"]
    """Whose ledger it is."""
    quorum: int | None
    """How many the policy in force asks for; 0 if it declares that there is none, None if it says nothing."""
    witnesses: tuple[WitnessLine, ...]
    """All whom the policy names, in its order."""
    entries: int
    """How many entries the ledger has."""
    covers: int
    """How many of them, from the first on, a quorum has cosigned."""
    uncovered_releases: int
    """How many releases stand behind these."""
    unusable: tuple[str, ...] = ()
    """Why a checkpoint beside the ledger counts for nothing; one for each that does."""

    @property
    def is_witnessed(self) -> bool:
        """Whether a quorum has seen every release, or all but the newest, which is cosigned after it has left."""
        return self.covers > 0 and self.uncovered_releases <= _AHEAD

    @property
    def in_words(self) -> str:
        """A sentence for a report, without its full stop."""
        who = ", ".join(f"{one.name} ({self._seen_in_words(one)})" for one in self.witnesses if one.covers)
        if self.role == "server":
            return f"cosigned by {who}" if who else NO_WITNESS
        if self.quorum is None:
            return f"{NO_WITNESS}: its policy says nothing of witnesses"
        if not self.quorum:
            return f"{NO_WITNESS}, as its policy declares"
        asked = f"its policy asks for {self.quorum} of {', '.join(one.name for one in self.witnesses)}"
        if not who:
            return f"{asked}, and no cosignature of theirs is here"
        return f"{asked}; cosigned by {who}; {self._uncovered_in_words}"

    def _seen_in_words(self, one: WitnessLine) -> str:
        when = "" if one.at is None else f", {one.at:%Y-%m-%d %H:%M} UTC"
        return f"the first {one.covers} of {self.entries} entries{when}"

    @property
    def _uncovered_in_words(self) -> str:
        match self.uncovered_releases:
            case 0:
                return f"every release is covered by {self.quorum} of them"
            case 1:
                return f"1 release is not covered by {self.quorum} of them"
            case count:
                return f"{count} releases are not covered by {self.quorum} of them"


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside a ledger and was found to be the ledger's own; who else has signed it is not checked yet."""

    owner: tuple[VerifierKey, ...]
    """Every key that the ledger has had."""
    notes: tuple[str, ...]
    """Checkpoints that one of them has signed for this ledger, and that the ledger holds."""
    unusable: tuple[str, ...]
    """As in `WitnessState`."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """That a ledger's own key has signed a checkpoint which the ledger does not hold."""

    fault: Fault
    what: str
    proof: EquivocationProof | None
    """For anybody, if the ledger has a signed checkpoint of that size too."""


def witness_state(ledger: LedgerFacts, notes: Iterable[bytes]) -> WitnessState:
    """What the witnesses of a unit's policy in force have seen of its verified ledger.

    Args:
        ledger: A unit's.
        notes: What lies beside it as cosigned checkpoints, by whomever.

    Raises:
        RolledBackError: If the ledger's own key has signed one that `contradiction` finds.
    """
    found, caps = beside(ledger.raw, notes), ledger.account.caps
    rules = None if caps is None else caps.witnesses
    named = {} if rules is None else dict(zip(rules.keys, rules.verifier_keys, strict=True))
    seen, unusable = _seen(found, named.values())
    quorum = None if rules is None else rules.quorum
    covers = _covered([size for size, _ in seen.values()], quorum or 0)
    return WitnessState(
        "unit",
        quorum,
        tuple(_line(name, key, seen) for name, key in named.items()),
        entries=ledger.size,
        covers=covers,
        uncovered_releases=sum(1 for entry in ledger.raw.entries[covers:] if entry.kind == ReleaseBody.kind),
        unusable=(*found.unusable, *unusable),
    )


def server_witnesses(entries: int, found: Beside, units: Iterable[WitnessState]) -> WitnessState:
    """What those whom units name as their witnesses have seen of the server's verified ledger.

    Args:
        entries: How many entries it has.
        found: What lies beside it.
        units: Of the ledgers of units here.
    """
    named = {VerifierKey.from_text(one.key): None for unit in units for one in unit.witnesses}
    seen, unusable = _seen(found, named)
    lines = tuple(_line(key.name, key, seen) for key in named)
    return WitnessState("server", None, lines, entries, 0, 0, (*found.unusable, *unusable))


def beside(raw: RawLedger, notes: Iterable[bytes]) -> Beside:
    """Which of these checkpoints are of this verified ledger.

    Raises:
        RolledBackError: If its own key has signed one that `contradiction` finds.
    """
    held, unusable, history = list[str](), list[str](), raw.history()
    for note in notes:
        try:
            held.append(open_beside(note, history))
        except NotWitnessedError as error:
            unusable.append(error.why)
    owner = tuple(VerifierKey(raw.origin, SignatureType.ED25519, key) for key in raw.keys().all)
    return Beside(owner, tuple(held), tuple(unusable))


def contradiction(raw: RawLedger, note: bytes) -> Contradiction | None:
    """How a verified ledger contradicts a checkpoint beside it; None if its own keys have signed none that does."""
    try:
        open_beside(note, raw.history())
    except NotWitnessedError:
        return None
    except RolledBackError:
        text = note.decode("utf-8")
    else:
        return None
    size, beside = parse_checkpoint(parse_note(text).text).size, "a checkpoint beside it that its own key has signed"
    if (proof := _fork(raw, text, size)) is not None:
        return Contradiction(Fault.FORK, proof.in_words, proof)
    if size > len(raw.entries):
        return Contradiction(Fault.SHORTER, f"it has {len(raw.entries)} entries; {beside} has {size}", None)
    return Contradiction(Fault.REWRITTEN, f"its first {size} entries are not those of {beside}", None)


def open_beside(note: bytes, history: History) -> str:
    """`open_own` of bytes that anybody can have put beside the ledger: their text, if the ledger's own key signed it.

    Raises:
        NotWitnessedError: If they are no checkpoint of this ledger that its own key has signed.
        RolledBackError: As `open_own`.
    """
    if len(note) > NOTE_LIMIT_BYTES:
        raise _counts_for_nothing(f"it has {len(note)} bytes, at most {NOTE_LIMIT_BYTES} are read")
    try:
        text = note.decode("utf-8")
        open_own(text, history)
    except ValueError as error:  # no UTF-8; or the log's changes of key were made so that two keys look alike
        raise _counts_for_nothing(f"it cannot be read: {error}") from error
    return text


def _seen(found: Beside, named: Collection[VerifierKey]) -> tuple[dict[VerifierKey, tuple[int, int]], list[str]]:
    """How much each witness has cosigned, and the second that it says it did; and which notes count for nothing."""
    # As at the door: a log is not its own witness.
    own = {key.public_key for key in found.owner}
    others = [key for key in named if key.public_key not in own]
    seen, unusable = dict[VerifierKey, tuple[int, int]](), list[str]()
    for note in found.notes:
        size = parse_checkpoint(parse_note(note).text).size
        try:
            signed = open_signed(note, [*found.owner, *named]).signed
        except (VerificationError, ValueError) as error:  # a false signature; or names and keys made to look alike
            unusable.append(error.why if isinstance(error, VerificationError) else str(error))
            continue
        for one in signed:
            if one.key in others:
                seen[one.key] = max(seen.get(one.key, (0, 0)), (size, one.timestamp or 0))
    return seen, unusable


def _covered(sizes: Iterable[int], quorum: int) -> int:
    """How many entries as many as `quorum` have cosigned; 0 if fewer have cosigned any."""
    ordered = sorted(sizes, reverse=True)
    return ordered[quorum - 1] if 0 < quorum <= len(ordered) else 0


def _line(name: str, key: VerifierKey, seen: Mapping[VerifierKey, tuple[int, int]]) -> WitnessLine:
    size, seconds = seen.get(key, (0, 0))
    return WitnessLine(name, key.to_text(), size, _time(seconds))


def _time(seconds: int) -> datetime | None:
    with suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None


def _fork(raw: RawLedger, note: str, size: int) -> EquivocationProof | None:
    """Proof that one key has signed this note and the ledger's own checkpoint of the same size; None if none has."""
    parsed, own = parse_note(note), dict(raw.notes).get(size, "")
    for line in parsed.signatures:
        for key in raw.keys().all:
            with suppress(VerificationError, ValueError):
                return EquivocationProof.of(raw.origin, key, own, Note(parsed.text, (line,)).to_text())
    return None


def _counts_for_nothing(why: str) -> NotWitnessedError:
    return NotWitnessedError(
        "what lies beside the ledger as a cosigned checkpoint counts for nothing",
        why=why,
        fix="ask its owner for the home's cosigned.note as it is",
    )
