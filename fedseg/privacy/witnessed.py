"""What must be witnessed before a release leaves: else whoever puts back an older ledger could spend it twice. Pure.

A release leaves only if a quorum of the policy's witnesses has cosigned a checkpoint of this very ledger that covers
every release before it, of whatever plan, and the approval that reserved its price. The checkpoint that holds the
release itself is cosigned afterwards, before the next round: so at most one release is not covered at any time, and
no more than that one can be made again on top of a copy. The cap keeps that much in reserve (`AccountState`).

A copy brings its cosignatures along. So each process of a unit begins with an entry of its own, a random number in it,
and what was cosigned counts only if it covers that entry: whoever has seen the ledger go on otherwise never cosigns it.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fedseg.errors import NotWitnessedError, RolledBackError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.key_change import LogKeys
from fedseg.ledger.notes import Note, SignatureLine, SignatureType, parse_note
from fedseg.ledger.verifier_keys import OpenedNote, VerifierKey, open_signed
from fedseg.privacy.entries import ApprovalBody, PolicyBody, ReleaseBody, StartBody, WitnessRules


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The newest cosigned checkpoint of a unit's own ledger, as it was given to the unit: believed by nobody yet."""

    note: str
    start: str
    """The nonce with which the unit's process began, which may run on a restored copy."""
    handovers: tuple[str, ...] = ()
    """Checkpoints that witnesses of earlier policies have cosigned."""


def require_witnessed(
    rules: WitnessRules | None, history: History, plan_sha256: str, cosigned: Cosigned | None
) -> None:
    """Refuse a release of a plan that the witnesses of the policy in force have not made safe. Depends on no row.

    Raises:
        NotWitnessedError: If too few of them have cosigned what is in `history` since the process began.
        RolledBackError: If the unit's own key has signed a history that this one does not begin with.
    """
    if rules is None or not rules.quorum:
        return
    if cosigned is None:
        raise _not_witnessed("no cosigned checkpoint of its ledger is here")
    checkpoint, opened = open_own(cosigned.note, history, rules.verifier_keys)
    seen = len(_others(opened, rules, history))
    if seen < rules.quorum:
        raise _not_witnessed(f"{seen} of its witnesses have cosigned it, wanted {rules.quorum}")
    if not has_start(history.entries[: checkpoint.size], cosigned.start):
        raise _not_witnessed("its witnesses have not cosigned it since this process began")
    if open_handovers(history, (cosigned.note, *cosigned.handovers)):
        raise _not_witnessed("its witnesses under an earlier policy have not cosigned that others take their place")
    if _spends(history.since(checkpoint.size), plan_sha256):
        raise _not_witnessed("its witnesses have not cosigned its last release, or the approval of this plan")


def open_handovers(history: History, notes: Iterable[str]) -> list[tuple[int, WitnessRules]]:
    """The changes of witnesses that those before have not cosigned: the entry of each, and who they were.

    Without their word, who puts back a ledger from before the change finds witnesses who have seen nothing since.

    Raises:
        RolledBackError: As `open_own`, of any of the notes.
    """
    found, before, held = list[tuple[int, WitnessRules]](), None, [*notes]
    for entry in history.entries:
        if entry.kind != PolicyBody.kind:
            continue
        stated = entry.body.get("witnesses")
        after = None if stated is None else WitnessRules.model_validate(stated)
        if before is not None and before.quorum and not before.same_as(after):
            found.append((entry.seq, before))
        before = after
    return [(seq, rules) for seq, rules in found if not any(_hands_over(note, seq, rules, history) for note in held)]


def _hands_over(note: str, seq: int, rules: WitnessRules, history: History) -> bool:
    """Whether enough of the witnesses of these rules have cosigned entry `seq`."""
    try:
        checkpoint, opened = open_own(note, history, rules.verifier_keys)
    except NotWitnessedError:
        return False
    return checkpoint.size > seq and len(_others(opened, rules, history)) >= rules.quorum


def _others(opened: OpenedNote, rules: WitnessRules, history: History) -> set[VerifierKey]:
    """The witnesses of these rules who have signed a note; a log's own key is nobody's witness."""
    own = LogKeys.of(history).all
    return {one.key for one in opened.signed if one.key in rules.verifier_keys and one.key.public_key not in own}


def has_start(entries: Sequence[Entry], nonce: str) -> bool:
    """Whether the entry with which a process began is among these."""
    return any(entry.kind == StartBody.kind and entry.body.get("nonce") == nonce for entry in reversed(entries))


def open_own(note: str, history: History, witnesses: Iterable[VerifierKey] = ()) -> tuple[Checkpoint, OpenedNote]:
    """The checkpoint of the unit's own ledger in a note, and who of `witnesses` has cosigned it.

    Raises:
        NotWitnessedError: If it is no note, or none that the ledger's own key has signed.
        RolledBackError: If the ledger's own key has signed it, and the ledger does not begin with what it says.
    """
    keys = LogKeys.of(history)
    origin = Genesis.of(history).origin
    own = [VerifierKey(origin, SignatureType.ED25519, key) for key in keys.all]
    try:
        opened = open_signed(note, [*own, *witnesses])
        checkpoint = parse_checkpoint(opened.text)
    except VerificationError as error:
        raise _not_witnessed(f"what was cosigned cannot be read: {error.why}") from error
    if checkpoint.origin != origin or not any(opened.by(key) for key in own):
        raise _not_witnessed("what was cosigned is not this ledger's")
    if checkpoint.size > history.size or checkpoint.root != history.root(checkpoint.size):
        if not opened.by(VerifierKey(origin, SignatureType.ED25519, keys.in_force)):
            # A key that was replaced may be in anybody's hands: it closes nothing.
            raise _not_witnessed("what was cosigned is not of this ledger, and not by the key in force")
        raise RolledBackError(
            "this ledger is not the newest: its own key has signed another history",
            why=f"a checkpoint of {checkpoint.size} entries is not of this ledger, which has {history.size}",
            fix="stop the node, and follow the page on recovering: nothing may be released on top of an older copy",
        )
    return checkpoint, opened


def gather(note: str, before: str | None, history: History, witnesses: Sequence[VerifierKey]) -> str | None:
    """The newer of two cosigned checkpoints of a ledger, with the cosignatures of both if they are the same.

    Args:
        note: What was given.
        before: What is there; None for nothing. What cannot be read is worth as much.
        history: The ledger's own.
        witnesses: Whose cosignatures are kept; keys that cosign.

    Returns:
        The note to keep; None if there is nothing new in it.

    Raises:
        NotWitnessedError, RolledBackError: As `open_own`, of what was given.
    """
    checkpoint, opened = open_own(note, history, witnesses)
    own, cosigned = _lines(note, opened)
    if not cosigned:
        return None
    with suppress(NotWitnessedError):
        known, earlier = open_own("" if before is None else before, history, witnesses)
        if known.size > checkpoint.size:
            return None
        if before is not None and known == checkpoint:
            cosigned = {**_lines(before, earlier)[1], **cosigned}
    return Note(opened.text, (own, *cosigned.values())).to_text()


def _lines(note: str, opened: OpenedNote) -> tuple[SignatureLine, dict[tuple[str, bytes], SignatureLine]]:
    """The log's own signature line, and by name and id those of its witnesses, all of them found to hold."""
    lines = {(line.name, line.key_id): line for line in parse_note(note).signatures}
    by_log = [one.key for one in opened.signed if one.key.type is SignatureType.ED25519]
    by_witness = [one.key for one in opened.signed if one.key.type is not SignatureType.ED25519]
    return lines[by_log[0].name, by_log[0].id], {(key.name, key.id): lines[key.name, key.id] for key in by_witness}


def _spends(entries: Iterable[Entry], plan_sha256: str) -> bool:
    """Whether a release is among the entries, or the approval of this plan."""
    return any(
        entry.kind == ReleaseBody.kind
        or (entry.kind == ApprovalBody.kind and entry.body.get("plan_sha256") == plan_sha256)
        for entry in entries
    )


def _not_witnessed(why: str) -> NotWitnessedError:
    return NotWitnessedError(
        "this unit's ledger is not witnessed as its policy asks",
        why=why,
        fix="see that its witnesses run; who they are says: fedseg policy explain HOME/policy.yaml",
    )
