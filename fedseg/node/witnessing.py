"""A unit's part in witnessing: it cosigns what peers have logged, and keeps what was cosigned of its own log.

HOME/LOCAL/witness/      the unit as a witness: key and memory (`ledger/witness.py`)
HOME/cosigned.note       the newest checkpoint of the unit's own ledger, with the cosignatures it was given
HOME/handover-SEQ.note   what witnesses of an earlier policy have cosigned: that entry SEQ puts others in their place
HOME/server.pub          the key of the server's log, which the unit witnesses too
HOME/rolled-back.note    what its own key has signed and its ledger does not hold: nothing is released any more

Everything comes and goes through the server, which can delay it and forge none of it. Nothing here depends on a row.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fedseg.errors import FedsegError, NotWitnessedError, RolledBackError, StorageError, VerificationError
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.entries import Genesis, History
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.ledger.notes import SignatureType, parse_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.store import Ledger
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness import KEY_FILE, Answer, Witness
from fedseg.node.home import LOCAL, NodeHome
from fedseg.plan import UnitTerms, parse_plan
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.entries import ApprovalBody, WitnessRules
from fedseg.privacy.witnessed import Cosigned, gather, has_start, open_handovers, open_own, require_witnessed
from fedseg.private_file import replacing

COSIGNED_FILE: Final = "cosigned.note"
ROLLED_BACK_FILE: Final = "rolled-back.note"
HANDOVER_FILE: Final = "handover-{}.note"
SERVER_FILE: Final = "server.pub"
SERVER_ORIGIN: Final = "fedseg/server"
TEXT_LIMIT: Final = 4096
"""Longest request, checkpoint or answer that is said: 63 hashes, or the longest cosignature there is, and names."""
_NOTE_LIMIT: Final = 64 * 1024


@dataclass(slots=True)
class NodeProcess:
    """One process of a unit, as its ledger and its witnesses know it."""

    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    """Stands in the entry with which it begins."""
    logged: bool = False
    """Whether that entry was made."""

    def begin(self, account: PrivacyAccount, now: datetime) -> None:
        """Log that this process began, unless it was."""
        if not self.logged:
            account.log_start(self.nonce, day=day_of(now))
            self.logged = True

    def require_same_ledger(self, history: History) -> None:
        """Refuse a ledger that was put in the place of the one in which this process began.

        Raises:
            RolledBackError: If it was.
        """
        if self.logged and not has_start(history.entries, self.nonce):
            raise RolledBackError(
                "this ledger is not the one in which the unit's process began",
                why="the entry that the process made when it began is not in it",
                fix="stop the node, and follow the page on recovering: nothing may be released on top of an older copy",
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """What the server asks of a unit about witnessing."""

    plan_sha256: str
    """The plan whose next release is to be made possible."""
    given: tuple[str, ...] = ()
    """Checkpoints of the unit's own ledger, with whatever signatures there are on them."""
    to_cosign: tuple[str, ...] = ()
    """Requests of others to the unit as a witness (`add-checkpoint`)."""
    sizes: tuple[int, ...] = (0,)
    """From which sizes the growth of the unit's ledger is to be shown, beside the one that was last cosigned."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A witness's answer, and what it has cosigned: so a log's owner learns that the log has been further already."""

    status: int
    body: str
    newest: str
    """The newest checkpoint of the log that it has cosigned; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a unit answers."""

    witness: str
    """The unit's verifier key as a witness."""
    wanted: tuple[str, ...]
    """Verifier keys of the witnesses that its policy names, and of those before them who are still to be asked."""
    satisfied: bool
    """Whether nothing is missing for the plan's next release, as far as witnesses go."""
    growth: tuple[str, ...] = ()
    """For each size that its ledger has had, ascending: the request that a witness takes."""
    replies: tuple[Reply, ...] = ()
    """To the requests to cosign, in their order."""


def as_witness(home: NodeHome) -> Witness:
    """The unit as a witness; made when it is first needed.

    Raises:
        SettingsError: If its memory was lost: it must not begin anew under the same key.
        KeyFileError, StorageError: If its files cannot be read or made.
    """
    folder = home.path / LOCAL / "witness"
    if (folder / KEY_FILE).exists():
        return Witness.open(folder)
    made = Witness.create(folder, f"fedseg/witness/{home.settings.unit}", SigningKey.generate())
    home.hand_over(folder, *folder.iterdir())
    return made


def cosigned_note(home: NodeHome) -> str | None:
    """The newest checkpoint of the unit's ledger that was cosigned, as it was given to the unit; None if there is none.

    Raises:
        StorageError: If the file cannot be read.
    """
    return _read(home.path / COSIGNED_FILE)


def cosigned_now(home: NodeHome, history: History, process: NodeProcess) -> Cosigned | None:
    """What the unit holds of its witnesses' words, for the door; None if nothing.

    Raises:
        RolledBackError: If its ledger was found to be an older copy.
        StorageError: If a file cannot be read.
    """
    process.require_same_ledger(history)
    require_not_rolled_back(home, history)
    note = cosigned_note(home)
    return None if note is None else Cosigned(note, process.nonce, _handovers(home))


def _handovers(home: NodeHome) -> tuple[str, ...]:
    found = (_read(path) for path in sorted(home.path.glob(HANDOVER_FILE.format("*"))))
    return tuple(note for note in found if note is not None)


def require_not_rolled_back(home: NodeHome, history: History) -> None:
    """Refuse a home whose ledger, with this history, does not begin with what its own key signed and others have kept.

    Raises:
        RolledBackError: If it does not, or was once found not to.
        StorageError: If a file cannot be read.
    """
    for note in (_read(home.path / ROLLED_BACK_FILE), cosigned_note(home), *_handovers(home)):
        if note is not None:
            # What is no note of this ledger says nothing about it; the door asks for one that is.
            with suppress(NotWitnessedError):
                open_own(note, history)


def serve(
    home: NodeHome,
    asked: Asked,
    process: NodeProcess,
    now: datetime,
    look: Callable[[Witness, Answer], None] = lambda _witness, _answer: None,
) -> tuple[Reply, ...]:
    """Keep what the unit is given of its own ledger, and cosign what others have grown to; the answers to these.

    Args:
        home: The unit's.
        asked: What the server asks.
        process: The unit's.
        now: The time that its cosignatures state.
        look: Sees each answer that it gives as a witness.

    Raises:
        RolledBackError: If what it is given shows that its ledger is an older copy; then that is kept.
        SettingsError, KeyFileError, StorageError: If its files cannot be read or written.
    """
    with home.ledger() as ledger:
        account = PrivacyAccount(ledger)
        rules = _rules(account)
        if rules is not None and rules.quorum:
            process.begin(account, now)
        history, _ = ledger.signed()
        peers = _peers(ledger, history) if asked.to_cosign else []
    for one in asked.given:
        keep(home, one, history, rules)
    witness = as_witness(home)
    answers = _cosign(witness, _server(home), peers, asked.to_cosign, now)
    for answered in answers:
        look(witness, answered)
    notes = {origin: log.note for origin, log in witness.logs().items()} if answers else {}
    return tuple(
        Reply(one.status.value, one.body, _newest(request, one, notes))
        for request, one in zip(asked.to_cosign, answers, strict=True)
    )


def said(home: NodeHome, asked: Asked, process: NodeProcess, replies: tuple[Reply, ...]) -> Said:
    """What there is to say after that: how the unit's own ledger has grown, and what is missing.

    Raises:
        RolledBackError: If its ledger is an older copy.
        SettingsError, KeyFileError, StorageError: If its files cannot be read or written.
    """
    with home.ledger() as ledger:
        rules = _rules(PrivacyAccount(ledger))
        history, note = ledger.signed()
    cosigned = cosigned_now(home, history, process)
    named = (
        []
        if rules is None or not rules.quorum
        else [rules, *(one for _, one in open_handovers(history, _handovers(home)))]
    )
    sizes = {*asked.sizes, *_cosigned_sizes(cosigned)}
    return Said(
        witness=as_witness(home).verifier_key.to_text(),
        wanted=tuple(dict.fromkeys(key for one in named for key in one.keys.values())),
        satisfied=_is_satisfied(rules, history, asked.plan_sha256, cosigned),
        growth=tuple(_growth(history, note, size) for size in sorted(sizes) if 0 <= size <= history.size),
        replies=replies,
    )


def answer(home: NodeHome, asked: Asked, process: NodeProcess, now: datetime) -> Said:
    """`serve`, and what is `said` then.

    Raises:
        RolledBackError, SettingsError, KeyFileError, StorageError: As these.
    """
    return said(home, asked, process, serve(home, asked, process, now))


def keep(home: NodeHome, note: str, history: History, rules: WitnessRules | None) -> None:
    """Keep the newest checkpoint of the unit's own ledger with all cosignatures of its witnesses; pass over the rest.

    Raises:
        RolledBackError: If the ledger's own key has signed it and the ledger does not hold it; then that is kept.
        StorageError: If it cannot be written.
    """
    _gather(home, COSIGNED_FILE, note, history, () if rules is None else rules.verifier_keys)
    for seq, before in open_handovers(history, _handovers(home)):
        _gather(home, HANDOVER_FILE.format(seq), note, history, before.verifier_keys)


def _gather(home: NodeHome, name: str, note: str, history: History, witnesses: Sequence[VerifierKey]) -> None:
    """Take into a file what these witnesses have signed in a note.

    Raises:
        RolledBackError, StorageError: As `keep`.
    """
    before = _read(home.path / name)
    try:
        gathered = gather(note, before, history, witnesses)
    except NotWitnessedError:
        return
    except RolledBackError:
        _write(home, ROLLED_BACK_FILE, note)
        raise
    if gathered is not None and gathered != before:
        _write(home, name, gathered)


def _is_satisfied(rules: WitnessRules | None, history: History, plan_sha256: str, cosigned: Cosigned | None) -> bool:
    try:
        require_witnessed(rules, history, plan_sha256, cosigned)
    except NotWitnessedError:
        return False
    return True


def _rules(account: PrivacyAccount) -> WitnessRules | None:
    caps = account.state().caps
    return None if caps is None else caps.witnesses


def _cosigned_sizes(cosigned: Cosigned | None) -> tuple[int, ...]:
    """How far the ledger was cosigned last; nothing if that cannot be read."""
    if cosigned is None:
        return ()
    try:
        return (parse_checkpoint(parse_note(cosigned.note).text).size,)
    except VerificationError:
        return ()


def _peers(ledger: Ledger, history: History) -> list[VerifierKey]:
    """The logs of the units with which this one has approved plans."""
    own, found = Genesis.of(history).origin, dict[str, VerifierKey]()
    for entry in history.entries:
        document = ledger.payload(entry.payload.id) if entry.kind == ApprovalBody.kind and entry.payload else None
        for unit in () if document is None else _units_of(document):
            key = VerifierKey(f"fedseg/unit/{unit.name}", SignatureType.ED25519, PublicKey.from_text(unit.public_key))
            if key.name != own:
                found.setdefault(key.name, key)
    return [*found.values()]


def _units_of(document: bytes) -> tuple[UnitTerms, ...]:
    """The units of a plan; none of one that this version reads no more."""
    try:
        return parse_plan(document).units
    except FedsegError:
        return ()


def _server(home: NodeHome) -> list[VerifierKey]:
    """The log of the server that the unit has joined; nothing before, or if the file was damaged."""
    try:
        key = PublicKey.from_text((_read(home.path / SERVER_FILE) or "").strip())
    except ValueError:
        return []
    return [VerifierKey(SERVER_ORIGIN, SignatureType.ED25519, key)]


def _cosign(
    witness: Witness, server: list[VerifierKey], peers: list[VerifierKey], requests: tuple[str, ...], now: datetime
) -> list[Answer]:
    if not requests:
        return []
    known = witness.logs()
    # A second key of a peer's log takes an operator's word: who names one in a plan could go on with another's log.
    new = [key for key in peers if key.name not in known]
    witness.enrol(*new, *(key for key in server if key.name not in known or key not in known[key.name].keys))
    return [witness.add_checkpoint(request.encode("utf-8"), now) for request in requests]


def _newest(request: str, answered: Answer, notes: dict[str, str]) -> str:
    """What was cosigned of the log that a request is about."""
    try:
        origin = parse_checkpoint(parse_note(ConsistencyProof.from_text(request).note).text).origin
    except VerificationError:
        return ""
    note = notes.get(origin, "") if answered.status >= HTTPStatus.BAD_REQUEST else ""
    return note if len(note) <= TEXT_LIMIT else ""


def _growth(history: History, note: str, size: int) -> str:
    hashes = history.consistency_proof(size) if size else []
    return ConsistencyProof(size, tuple(hashes), note).to_text()


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_NOTE_LIMIT).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _storage(path, error) from error


def _write(home: NodeHome, name: str, note: str) -> None:
    path = home.path / name
    try:
        with replacing(path, home.hand_over) as file:
            file.write(note.encode("utf-8"))
    except OSError as error:
        raise _storage(path, error) from error


def _storage(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be read or written",
        why=error.strerror or "the disk refused",
        fix="check its permissions and the free space",
    )
