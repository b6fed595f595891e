"""What can be said of a unit's witnesses: by its verified ledger, and by the cosigned checkpoints beside it. Pure.

A checkpoint beside a ledger can come from anybody, so none is believed: its size is bounded, the ledger's own key must
have signed it, and of the cosignatures only those count that hold by the keys in the policy in force. It says what a
witness had seen then: an older copy of a ledger has older ones beside it, and only their time tells.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault
from fedseg.audit.proof import EquivocationProof
from fedseg.errors import NotWitnessedError, RolledBackError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.entries import History
from fedseg.ledger.notes import Note, parse_note
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.verifier_keys import OpenedNote, VerifierKey
from fedseg.privacy.entries import ReleaseBody
from fedseg.privacy.witnessed import open_own

NOTE_LIMIT_BYTES: Final = 64 * 1024
"""Longest cosigned checkpoint that is read."""
NO_WITNESS: Final = "no witness"
_AHEAD: Final = 1
"""So many releases are not covered where the policy is kept: the newest is cosigned after it has left."""


@dataclass(frozen=True, slots=True)
class WitnessLine:
    """One of the policy's witnesses."""

    name: str
    """As the policy names it."""
    covers: int
    """How many of the ledger's entries the newest checkpoint covers that it has cosigned; 0 if it has cosigned none."""
    at: datetime | None
    """When it says that it did (UTC); None if it did not, or says no time that a calendar has."""


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How much of a unit's ledger its witnesses have seen. The field names are keys of JSON output."""

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
        if self.quorum is None:
            return f"{NO_WITNESS}: its policy says nothing of witnesses"
        if not self.quorum:
            return f"{NO_WITNESS}, as its policy declares"
        names, seen = ", ".join(one.name for one in self.witnesses), [one for one in self.witnesses if one.covers]
        asked = f"its policy asks for {self.quorum} of {names}"
        if not seen:
            return f"{asked}, and no cosignature of theirs is here"
        who = ", ".join(f"{one.name} ({self._seen_in_words(one)})" for one in seen)
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
    history, caps = ledger.raw.history(), ledger.account.caps
    rules = None if caps is None else caps.witnesses
    named = {} if rules is None else dict(zip(rules.keys, rules.verifier_keys, strict=True))
    # As at the door: a log is not its own witness.
    others = {key for key in named.values() if key.public_key not in ledger.keys}
    seen, unusable = dict[VerifierKey, tuple[int, int]](), list[str]()
    for note in notes:
        try:
            checkpoint, opened = open_beside(note, history, named.values())
        except NotWitnessedError as error:
            unusable.append(error.why)
            continue
        for one in opened.signed:
            if one.key in others:
                seen[one.key] = max(seen.get(one.key, (0, 0)), (checkpoint.size, one.timestamp or 0))
    quorum = None if rules is None else rules.quorum
    covers = _covered([size for size, _ in seen.values()], quorum or 0)
    return WitnessState(
        quorum,
        tuple(WitnessLine(name, *_said(seen.get(key))) for name, key in named.items()),
        entries=ledger.size,
        covers=covers,
        uncovered_releases=sum(1 for entry in history.since(covers) if entry.kind == ReleaseBody.kind),
        unusable=tuple(unusable),
    )


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


def open_beside(note: bytes, history: History, witnesses: Iterable[VerifierKey] = ()) -> tuple[Checkpoint, OpenedNote]:
    """`open_own` of bytes that anybody can have put beside the ledger.

    Raises:
        NotWitnessedError: If they are no checkpoint of this ledger that its own key has signed, or a signature under
            a witness's name is not its own: then none of them counts.
        RolledBackError: As `open_own`, whatever else is wrong with the note.
    """
    if len(note) > NOTE_LIMIT_BYTES:
        raise _counts_for_nothing(f"it has {len(note)} bytes, at most {NOTE_LIMIT_BYTES} are read")
    try:
        text = note.decode("utf-8")
        found = open_own(text, history)
        return open_own(text, history, known) if (known := tuple(witnesses)) else found
    except UnicodeDecodeError as error:
        raise _counts_for_nothing("it is not text") from error
    except ValueError as error:  # `open_signed`: a policy, or a log's changes of key, made so that keys look alike
        raise _counts_for_nothing(f"whose signatures it has cannot be told: {error}") from error


def _covered(sizes: Iterable[int], quorum: int) -> int:
    """How many entries as many as `quorum` have cosigned; 0 if fewer have cosigned any."""
    ordered = sorted(sizes, reverse=True)
    return ordered[quorum - 1] if 0 < quorum <= len(ordered) else 0


def _said(seen: tuple[int, int] | None) -> tuple[int, datetime | None]:
    """How much a witness has cosigned, and when."""
    size, seconds = seen or (0, 0)
    with suppress(OverflowError, ValueError, OSError):
        return size, datetime.fromtimestamp(seconds, UTC) if seconds else None
    return size, None


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
        fix="ask the unit for its home's cosigned.note as it is",
    )
