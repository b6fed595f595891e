"""Checking a certificate of erasure: against the unit's key alone, or against its whole ledger where that is there.

What a certificate proves, and what nobody can, stands in `fedseg.certificate`.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from fedseg.audit.entries import failed
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault, accused, fault_of
from fedseg.audit.review import Finding
from fedseg.certificate import (
    ENCRYPTED,
    STORES,
    ErasureFacts,
    ProvenCertificate,
    drawn_rounds,
    open_certificate,
    open_closing,
)
from fedseg.errors import VerificationError
from fedseg.ledger.canonical import sha256_hex
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.entries import Entry
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.proof import InclusionProof
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.privacy.entries import ReleaseBody, RightsBatchBody, unit_body
from fedseg.privacy.state import replay

_Said = TypeVar("_Said")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate was found to say."""

    erasure: ErasureFacts
    period: str
    """The day whose entry in the unit's ledger it is bound to."""
    public_key: PublicKey
    """The key that has signed it."""
    closed: str | None
    """The day on which no backup from before the erasure could be read any more, if the unit has certified that."""
    held_against_ledger: bool
    """Whether its rounds and their price were recomputed; else it is the unit's word."""


def verify_certificate(data: bytes, keys: Collection[PublicKey], ledger: LedgerFacts | None = None) -> CertificateFacts:
    """What the certificate in a file's bytes says, after everything that can be checked was.

    Args:
        data: The file.
        keys: Keys of the unit, known from elsewhere.
        ledger: The unit's ledger, verified; then its keys count too.

    Raises:
        VerificationError: At the first thing that does not check out; with its fault.
    """
    with _naming(Fault.NO_CERTIFICATE):
        found = ProvenCertificate.from_bytes(data)
    known = sorted({*keys, *(() if ledger is None else ledger.keys)}, key=lambda one: one.raw)
    public_key, facts = _signed(found, known, open_certificate)
    if sorted(one.store for one in facts.stores) != sorted(STORES):
        raise failed(Fault.STORE_LEFT_OUT, "it does not say of every store, once, what was done there")
    _require_told(facts)
    batch = _logged_batch(found, facts.unit, known, ledger)
    if not found.is_in(batch):
        raise failed(Fault.UNCERTIFIED, f"the entry for {batch.period} does not hold its commitment")
    if not facts.received <= facts.completed <= batch.period:
        why = f"received {facts.received}, completed {facts.completed}, logged with {batch.period}"
        raise failed(Fault.BACKDATED, f"its days do not follow each other: {why}")
    if facts.completed > facts.due:
        raise failed(Fault.LATE, f"it was due on {facts.due} and completed on {facts.completed}")
    if ledger is not None:
        _hold_against(facts, ledger)
    closed = None if found.closing is None else _closed(found, found.closing, facts, known, ledger)
    return CertificateFacts(facts, batch.period, public_key, closed, held_against_ledger=ledger is not None)


def _closed(
    found: ProvenCertificate,
    closing: ProvenCertificate,
    facts: ErasureFacts,
    keys: Sequence[PublicKey],
    ledger: LedgerFacts | None,
) -> str:
    """The day that a closing statement states, which is this certificate's, of backups that were encrypted."""
    _, (said, certificate) = _signed(closing, keys, open_closing)
    if (said.unit, said.request_id, certificate) != (facts.unit, facts.request_id, sha256_hex(found.envelope)):
        raise failed(Fault.CLOSING, "its closing statement is about another certificate")
    if not any(one.store == "backups" and one.method.startswith(ENCRYPTED) for one in facts.stores):
        raise failed(Fault.CLOSING, "it closes backups of which the certificate does not speak")
    batch = _logged_batch(closing, said.unit, keys, ledger)
    if not closing.is_in(batch):
        raise failed(
            Fault.UNCERTIFIED, f"the entry for {batch.period} does not hold the closing statement's commitment"
        )
    if not facts.completed <= said.closed <= batch.period:
        why = f"completed {facts.completed}, closed {said.closed}, logged with {batch.period}"
        raise failed(Fault.BACKDATED, f"the days of its closing statement do not follow each other: {why}")
    return said.closed


def _require_told(facts: ErasureFacts) -> None:
    """Every recipient was told of the erasure, or an officer has said why not, before it counted as completed."""
    if len({one.recipient for one in facts.recipients}) < len(facts.recipients):
        raise failed(Fault.UNTOLD, "it names a recipient twice")
    for one in facts.recipients:
        if one.status in {"pending", "failed"}:
            raise failed(Fault.UNTOLD, f"{one.recipient} has not acknowledged that it was told")
        if one.day > facts.completed:
            raise failed(Fault.UNTOLD, f"{one.recipient} was told on {one.day}, and it was completed before")


def _signed(
    found: ProvenCertificate, keys: Sequence[PublicKey], opened: Callable[[bytes, PublicKey], _Said]
) -> tuple[PublicKey, _Said]:
    """What it says, and which of the keys has signed it."""
    why = "no key of the unit is known"
    for key in keys:
        try:
            return key, opened(found.envelope, key)
        except VerificationError as error:
            why = error.why
    raise failed(Fault.CERTIFICATE_KEY, why)


def _logged_batch(
    found: ProvenCertificate, unit: str, keys: Sequence[PublicKey], ledger: LedgerFacts | None
) -> RightsBatchBody:
    """The entry of the unit's ledger that it is bound to, which is shown to be in there."""
    with _naming(Fault.UNCERTIFIED):
        proof = InclusionProof.from_text(found.log_proof)
        entry = proof.extra or b""
        origin = f"fedseg/unit/{unit}"
        if ledger is None:
            logs = [VerifierKey(origin, SignatureType.ED25519, key) for key in keys]
            checkpoint = parse_checkpoint(open_signed(proof.note, logs).text)
            if checkpoint.origin != origin:
                raise failed(Fault.UNCERTIFIED, "its checkpoint is of another log")
            proof.verify(entry, checkpoint)
        elif ledger.origin != origin or ledger.raw.entries[proof.index].to_bytes() != entry:
            raise failed(Fault.UNCERTIFIED, f"entry {proof.index} of the ledger is another")
        body = unit_body(Entry.from_bytes(entry))
    if not isinstance(body, RightsBatchBody):
        raise failed(Fault.UNCERTIFIED, "it is bound to an entry that is no day's batch")
    return body


def _hold_against(facts: ErasureFacts, ledger: LedgerFacts) -> None:
    """What it says of rounds, price and policy is what the unit's ledger says."""
    if facts.ledger_size > ledger.size:
        raise failed(Fault.ROUNDS, f"it speaks of {facts.ledger_size} entries, the ledger has {ledger.size}")
    before, after = ledger.raw.entries[: facts.ledger_size], ledger.raw.entries[facts.ledger_size :]
    state = replay(before)
    if (facts.drawn, facts.rho) != (drawn_rounds(state), state.rho_spent):
        raise failed(Fault.ROUNDS, "the ledger says other rounds, or another price, than it does")
    for entry in after:
        if entry.kind == ReleaseBody.kind and str(entry.body["released_on"]) < facts.completed:
            raise failed(Fault.ROUNDS, f"release {entry.seq} was made before, and is not among its rounds")
    if state.caps is not None and (state.caps.policy_sha256, state.caps.delta) != (facts.policy_sha256, facts.delta):
        raise failed(Fault.ROUNDS, "it names another policy than the one that was in force")


@contextmanager
def _naming(fault: Fault) -> Generator[None]:
    """Whatever fails inside has this fault."""
    try:
        yield
    except VerificationError as error:
        accused(error, fault)
        raise
    except (IndexError, KeyError, ValueError) as error:
        raise failed(fault, "a part of it cannot be read") from error


def review_certificates(
    files: Mapping[str, bytes], keys: Mapping[str, PublicKey], ledgers: Iterable[LedgerFacts]
) -> tuple[dict[str, CertificateFacts], list[Finding]]:
    """Check certificates, each by itself and against the ledgers that are there; what was found in each, and faults.

    Args:
        files: Certificates by the name they are to be called by.
        keys: The key of each unit that somebody vouches for, by name.
        ledgers: Verified ledgers, of whomever.
    """
    units = {one.unit: one for one in ledgers if one.unit}
    found: dict[str, CertificateFacts] = {}
    findings: list[Finding] = []
    for name, data in files.items():
        try:
            found[name] = _of_its_unit(data, keys, units)
        except VerificationError as error:
            findings.append(Finding(fault_of(error), name, error.why))
    said: dict[tuple[str, str], tuple[str, ErasureFacts]] = {}
    for name, one in found.items():
        other, facts = said.setdefault((one.erasure.unit, one.erasure.request_id), (name, one.erasure))
        if facts != one.erasure:
            findings.append(Finding(Fault.CONTRADICTED, f"{other} and {name}", "they are of one request"))
    return found, findings


def _of_its_unit(data: bytes, keys: Mapping[str, PublicKey], ledgers: Mapping[str, LedgerFacts]) -> CertificateFacts:
    """The certificate, checked with the keys and the ledger of the unit whose it is: the first for which it holds."""
    units = sorted({*keys, *ledgers})
    refused: VerificationError | None = None
    for unit in units:
        known = [keys[unit]] if unit in keys else []
        try:
            found = verify_certificate(data, known, ledgers.get(unit))
        except VerificationError as error:
            if fault_of(error) is not Fault.CERTIFICATE_KEY:
                raise
            refused = error
        else:
            if found.erasure.unit == unit:
                return found
            refused = failed(Fault.CERTIFICATE_KEY, f"it is {found.erasure.unit}'s, signed with the key of {unit}")
    raise refused or failed(Fault.CERTIFICATE_KEY, "no key of any unit is known")
