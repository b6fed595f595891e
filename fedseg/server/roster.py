"""Who belongs to a federation, and who let them in: a log of its own beside the server's ledger.

A unit is let in, or put out, by as many officers as the rules ask for, each with a signature of this very change; or by
whoever operates the server alone, where the rules say so. A change that too few have signed does not verify: the log is
replayed whenever it is opened, so nobody who can merely write files adds a unit. No Flower, no network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError

from fedseg.errors import EnrolmentError, NotApprovedError, SettingsError, TrustError, VerificationError
from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.ledger.entries import Entry
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger, Transaction
from fedseg.privacy.account import day_of, officers_who_signed
from fedseg.privacy.entries import (
    ApprovalRules,
    Body,
    Day,
    Hash,
    OfficerName,
    OfficerSignature,
    Part,
    PayloadBody,
    PublicKeyText,
    UnitName,
)
from fedseg.privacy.signatures import Officer

ORIGIN: Final = "fedseg/roster"
ROSTER_CONTEXT: Final = b"fedseg/roster/v1\n"
OFFICERS_REQUIRED: Final = 2
"""How many officers change a roster, unless one operator alone does."""

NodeKeyText = Annotated[str, Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/]{40,300}={0,2}$")]
"""A node's public key as OpenSSH writes it, without a comment."""
Action = Literal["admit", "remove", "rules"]


class Change(Part):
    """What officers put their names to."""

    action: Action
    unit: UnitName | None = None
    """Who is let in or put out."""
    subject_sha256: Hash
    """The unit's request to join, the one that is answered or by which it was let in; or else the new rules."""
    rules_sha256: Hash
    """The rules in force."""

    @property
    def signed_bytes(self) -> bytes:
        """What an officer signs."""
        return ROSTER_CONTEXT + canonical(self.model_dump(mode="json", exclude_none=True))


class RulesBody(Body):
    """Who may change the roster."""

    kind: ClassVar[str] = "rules"

    rules: ApprovalRules
    officers: list[OfficerName] = Field(default_factory=list[OfficerName])
    """Who has signed for them, under the rules before."""

    @property
    def digest(self) -> str:
        """Hash of the rules."""
        return sha256_hex(canonical(self.rules.model_dump(mode="json", exclude_none=True)))


class WordBody(Body):
    """An officer's signed word for a change."""

    kind: ClassVar[str] = "word"

    change: Change
    word: OfficerSignature
    made_on: Day


class AdmissionBody(PayloadBody):
    """A unit let in, or let in again with another key of its node."""

    kind: ClassVar[str] = "admission"

    unit: UnitName
    unit_key: PublicKeyText
    node_key: NodeKeyText
    request_sha256: Hash
    officers: list[OfficerName]
    """Who has signed for it; nobody where one operator alone decides."""
    made_on: Day


class RemovalBody(Body):
    """A unit put out."""

    kind: ClassVar[str] = "removal"

    unit: UnitName
    request_sha256: Hash
    officers: list[OfficerName]
    made_on: Day


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a request to join says of a unit, once its signatures were found right."""

    unit: str
    unit_key: str
    node_key: str
    request_sha256: str
    document: bytes


@dataclass(frozen=True, slots=True)
class RosterState:
    """The roster as its log says."""

    rules: RulesBody
    members: Mapping[str, AdmissionBody] = field(default_factory=dict[str, AdmissionBody])
    """By unit."""
    past: tuple[AdmissionBody, ...] = ()
    """Every admission that there ever was."""
    words: tuple[WordBody, ...] = ()
    """All of them; those for a change that was made count for no other."""

    @property
    def single_operator(self) -> bool:
        """Whether one operator alone decides."""
        return self.rules.rules.required == 0

    def change(self, action: Action, unit: str | None, subject_sha256: str) -> Change:
        """A change under the rules in force."""
        return Change(action=action, unit=unit, subject_sha256=subject_sha256, rules_sha256=self.rules.digest)

    def approving(self, change: Change) -> list[str]:
        """The officers who have signed for a change, by name."""
        said = [one.word for one in self.words if one.change == change]
        return sorted(officers_who_signed(self.rules.rules, said, change.signed_bytes))

    def missing(self, change: Change) -> int:
        """How many more officers must sign for a change."""
        return max(0, self.rules.rules.required - len(self.approving(change)))

    def require_new(self, candidate: Candidate) -> None:
        """Refuse a request whose name, key or self has been used.

        Raises:
            EnrolmentError: If another unit has the name, the key stands or stood for a node, or the request was used.
        """
        member = self.members.get(candidate.unit)
        if candidate.request_sha256 in {one.request_sha256 for one in self.past}:
            raise EnrolmentError(
                "this request was used before",
                why="a request lets a unit in once, and the roster says that this one did",
                fix="have the unit make a new one: fedseg node renew DIR",
            )
        if member is not None and member.unit_key != candidate.unit_key:
            raise EnrolmentError(
                f"another unit is called {candidate.unit} here",
                why="its unit key is another one; a name stands for one unit, and plans could not tell two apart",
                fix="let the unit choose another name; if it has replaced its key, first: fedseg server remove",
            )
        if candidate.node_key in {one.node_key for one in self.past}:
            raise EnrolmentError(
                "the node's key is in use, or was once",
                why="a key stands for one node, and one that was put out does not come back",
                fix="have the unit make a new key: fedseg node renew DIR",
            )
        if any(one.unit_key == candidate.unit_key for name, one in self.members.items() if name != candidate.unit):
            raise EnrolmentError(
                "a unit of another name has this unit key",
                why="a unit is in a federation once, or its customers would pay twice for one plan",
                fix="let the unit go on under the name that it has: fedseg server status DIR",
            )


class Roster:
    """The roster's log."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def create(cls, path: Path, key: SigningKey, rules: ApprovalRules, *, now: datetime) -> Self:
        """A new one without members.

        Raises:
            StorageError: If it cannot be written.
        """
        ledger = Ledger.create(path, origin=ORIGIN, key=key, body={"role": "roster", "made_on": day_of(now)})
        with ledger.transaction() as transaction:
            body = RulesBody(rules=rules)
            transaction.append(body.kind, body.facts())
        return cls(ledger)

    @classmethod
    def open(cls, path: Path, key: SigningKey) -> Self:
        """An existing one.

        Raises:
            LedgerUnreadableError, VerificationError: If it is none, or was changed.
        """
        roster = cls(Ledger.open(path, key))
        roster.state()
        return roster

    def state(self) -> RosterState:
        """The roster as it stands, replayed from the log.

        Raises:
            VerificationError: If an entry is none, or a change lacks a signature.
        """
        return _replay(self._ledger.entries())

    def admit(self, candidate: Candidate, officer: Officer | None, *, now: datetime) -> int:
        """Log an officer's word for a unit, and let it in with the last that the rules ask for.

        Returns:
            How many more officers must sign; 0 if the unit is in.

        Raises:
            EnrolmentError: As `RosterState.require_new`.
            NotApprovedError, TrustError: If an officer is needed, or this is none. Nothing was logged then.
        """
        with self._ledger.transaction() as transaction:
            state = _replay(transaction.entries())
            state.require_new(candidate)
            change = state.change("admit", candidate.unit, candidate.request_sha256)
            state = _sign(transaction, state, change, officer, now)
            if not (missing := state.missing(change)):
                admission = AdmissionBody(
                    unit=candidate.unit,
                    unit_key=candidate.unit_key,
                    node_key=candidate.node_key,
                    request_sha256=candidate.request_sha256,
                    officers=state.approving(change),
                    made_on=day_of(now),
                )
                payload = (f"request:{candidate.request_sha256}", candidate.document)
                transaction.append(admission.kind, admission.facts(), payload=payload)
            return missing

    def remove(self, unit: str, officer: Officer | None, *, now: datetime) -> int:
        """Log an officer's word against a unit, and put it out with the last that the rules ask for.

        Returns:
            How many more officers must sign; 0 if the unit is out.

        Raises:
            SettingsError: If there is no such unit.
            NotApprovedError, TrustError: As `admit`.
        """
        with self._ledger.transaction() as transaction:
            state = _replay(transaction.entries())
            member = state.members.get(unit)
            if member is None:
                raise SettingsError(
                    f"no unit {unit} belongs to this server",
                    why=f"those that do: {', '.join(sorted(state.members)) or 'none'}",
                    fix="fedseg server status DIR",
                )
            change = state.change("remove", unit, member.request_sha256)
            state = _sign(transaction, state, change, officer, now)
            if not (missing := state.missing(change)):
                removal = RemovalBody(
                    unit=unit,
                    request_sha256=member.request_sha256,
                    officers=state.approving(change),
                    made_on=day_of(now),
                )
                transaction.append(removal.kind, removal.facts())
            return missing

    def change_rules(self, rules: ApprovalRules, officer: Officer | None, *, now: datetime) -> int:
        """Log an officer's word for other rules, and put them in force with the last that the present ones ask for.

        What officers have said for a unit that is not in yet counts no longer.

        Returns:
            How many more officers must sign; 0 if the new rules are in force.

        Raises:
            NotApprovedError, TrustError: As `admit`.
        """
        with self._ledger.transaction() as transaction:
            state, body = _replay(transaction.entries()), RulesBody(rules=rules)
            if body.digest == state.rules.digest:
                return 0
            change = state.change("rules", None, body.digest)
            state = _sign(transaction, state, change, officer, now)
            if not (missing := state.missing(change)):
                signed = body.model_copy(update={"officers": state.approving(change)})
                transaction.append(signed.kind, signed.facts())
            return missing


def rules_of(officers: Mapping[str, str], *, single_operator: bool) -> ApprovalRules:
    """Rules under which any two of these officers, public keys by name, change the roster; or one operator alone.

    Raises:
        SettingsError: If neither is said, or both, or there are too few officers with keys of their own.
    """
    if single_operator == bool(officers):
        raise SettingsError(
            "the command does not say who decides which units belong",
            why="it needs two officers or more with their public keys, or --single-operator alone",
            fix="--officer ann=KEY --officer bob=KEY, with keys made by: fedseg key new FILE",
        )
    if officers and (len(officers) < OFFICERS_REQUIRED or len(set(officers.values())) < len(officers)):
        raise SettingsError(
            "too few officers have a key of their own",
            why=f"a change takes {OFFICERS_REQUIRED} of them, and each signs with another key",
            fix="name two officers or more, each with the public key that `fedseg key new` has printed",
        )
    try:
        return ApprovalRules(officers=dict(officers), required=OFFICERS_REQUIRED if officers else 0)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(
            f"an officer cannot be used: {'.'.join(map(str, first['loc']))}",
            why=first["msg"],
            fix="--officer NAME=KEY: a name of small letters and digits, and the key that `fedseg key new` has printed",
        ) from error


def _sign(
    transaction: Transaction, state: RosterState, change: Change, officer: Officer | None, now: datetime
) -> RosterState:
    """Append the officer's word for a change; none is needed where one operator alone decides."""
    if state.single_operator:
        return state
    officers = state.rules.rules.officers
    names = ", ".join(sorted(officers))
    if officer is None:
        raise NotApprovedError(
            "an officer must decide this",
            why=f"two of {names} decide who belongs",
            fix="add --officer NAME --officer-key FILE",
        )
    said = OfficerSignature(officer=officer.name, signature=officer.key.sign(change.signed_bytes).hex())
    if not officers_who_signed(state.rules.rules, [said], change.signed_bytes):
        raise TrustError(
            f"{officer.name} is no officer of this server with this key",
            why=f"its officers are {names}, each with the key named when the server was made",
            fix="use your own name and key file",
        )
    word = WordBody(change=change, word=said, made_on=day_of(now))
    if officer.name not in state.approving(change):
        transaction.append(word.kind, word.facts())
    return replace(state, words=(*state.words, word))


_BODY = TypeVar("_BODY", bound=Body)


def _replay(entries: Iterable[Entry]) -> RosterState:
    state: RosterState | None = None
    for entry in list(entries)[1:]:
        try:
            state = _after(state, entry)
        except (ValueError, LookupError) as error:  # pydantic's are ValueErrors
            raise VerificationError(
                "the roster does not check out",
                why=f"entry {entry.seq} ({entry.kind}): {str(error).splitlines()[0]}",
                fix="restore server/roster.db from a backup, and find out who changed this one",
            ) from error
    if state is None:
        raise VerificationError(
            "the roster does not check out",
            why="it has no rules: it was not made as a whole",
            fix="make the server anew in another directory: fedseg server init",
        )
    return state


def _after(state: RosterState | None, entry: Entry) -> RosterState:
    if state is None:
        return RosterState(_read(entry, RulesBody))
    if entry.kind == RulesBody.kind:
        rules = _read(entry, RulesBody)
        _require_signed(state, state.change("rules", None, rules.digest), rules.officers)
        return replace(state, rules=rules)
    if entry.kind == WordBody.kind:
        return replace(state, words=(*state.words, _read(entry, WordBody)))
    if entry.kind == AdmissionBody.kind:
        body = _read(entry, AdmissionBody)
        _require_signed(state, state.change("admit", body.unit, body.request_sha256), body.officers)
        if body.request_sha256 in {one.request_sha256 for one in state.past}:
            raise ValueError("a request is used twice")
        return replace(state, members={**state.members, body.unit: body}, past=(*state.past, body))
    gone = _read(entry, RemovalBody)
    if state.members[gone.unit].request_sha256 != gone.request_sha256:
        raise ValueError("it puts out another than the one that was let in")
    _require_signed(state, state.change("remove", gone.unit, gone.request_sha256), gone.officers)
    return replace(state, members={name: one for name, one in state.members.items() if name != gone.unit})


def _require_signed(state: RosterState, change: Change, officers: list[str]) -> None:
    if state.missing(change) or state.approving(change) != officers:
        raise ValueError("too few officers have signed it")


def _read(entry: Entry, kind: type[_BODY]) -> _BODY:
    if entry.kind != kind.kind:
        raise ValueError(f"expected {kind.kind}")
    return kind.model_validate(dict(entry.body))
