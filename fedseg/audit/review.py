"""The whole offline audit: bundles in, everything found out. Needs public keys and nobody's word; pure.

Each ledger is verified by itself, up to its first fault; then everything is held against everything else, so one fault
does not hide another that does not follow from it.
"""

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fedseg.audit import cross
from fedseg.audit.archive import Member, Role, unpack
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault, fault_of
from fedseg.audit.histories import fork, root_at, signed_checkpoints
from fedseg.audit.log import parse_log
from fedseg.audit.memory import LogId, Memory, SignedCheckpoint
from fedseg.audit.proof import PROOF_START, EquivocationProof
from fedseg.audit.verify import verify_raw
from fedseg.audit.witnesses import WitnessState, beside, contradiction, server_witnesses, witness_state
from fedseg.errors import FedsegError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.raw import RawLedger
from fedseg.plan import Plan, parse_plan
from fedseg.segments.segmentation import SignedSegmentation, parse_signed

FINDINGS_MAX = 1000
"""Most findings that are listed: who makes evidence up can make up any number of faults."""
_TEXT_LIMIT = 500


class KeySource(enum.StrEnum):
    """Who vouches for the key that a ledger was verified with."""

    GIVEN = "given"
    """Whoever asked for the audit."""
    REMEMBERED = "remembered"
    """An earlier audit, which saw the log with this key."""
    BUNDLE = "bundle"
    """The bundle itself: then nobody."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not check out."""

    fault: Fault
    where: str
    """The file in the bundle, or which were compared."""
    what: str


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """A ledger that checks out by itself."""

    where: str
    facts: LedgerFacts
    key_source: KeySource

    @property
    def id(self) -> LogId:
        """Which log it is."""
        return _id_of(self.facts.raw)

    @property
    def newest(self) -> SignedCheckpoint:
        """Its newest checkpoint, which covers all of it."""
        facts = self.facts
        newest = Checkpoint(facts.origin, facts.size, facts.root)
        return SignedCheckpoint(newest, facts.raw.notes[-1][1], facts.raw.keys().signer(facts.size))


@dataclass(frozen=True, slots=True)
class Review:
    """What an audit found."""

    members: tuple[tuple[str, Member], ...]
    """Every file that was read, with its place."""
    logs: tuple[CheckedLog, ...]
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    """What is no fault, but must be known to judge the rest; whole sentences without their full stop."""
    proofs: tuple[EquivocationProof, ...]
    memory: Memory
    """What to remember: nothing new, if anything failed."""
    witnessed: tuple[tuple[CheckedLog, WitnessState], ...] = ()
    """Of each ledger that checks out, the newest copy, and what witnesses have seen of it; the server's first."""

    @property
    def simulated(self) -> bool:
        """Whether any noise came from elsewhere than the system's randomness: then nothing here is private."""
        return any(log.facts.simulated for log in self.logs)


def review(files: Mapping[str, bytes], keys: Mapping[str, PublicKey], memory: Memory | None = None) -> Review:
    """Verify bundles, each by itself and all against one another.

    Args:
        files: Bundles, or equivocation proofs, by the name they are to be called by.
        keys: The key of each log that somebody vouches for: by unit name, `server`, or origin.
        memory: What earlier audits saw; None to remember nothing.
    """
    return _Reviewer(files, keys, memory if memory is not None else Memory()).run()


@dataclass
class _Reviewer:
    """The audit in the making."""

    files: Mapping[str, bytes]
    keys: Mapping[str, PublicKey]
    memory: Memory
    members: list[tuple[str, Member]] = field(default_factory=list[tuple[str, Member]])
    ledgers: list[tuple[str, RawLedger]] = field(default_factory=list[tuple[str, RawLedger]])
    logs: list[CheckedLog] = field(default_factory=list[CheckedLog])
    findings: list[Finding] = field(default_factory=list[Finding])
    remarks: list[str] = field(default_factory=list[str])
    results: dict[tuple[str, str], tuple[str, SignedSegmentation]] = field(
        default_factory=dict[tuple[str, str], tuple[str, SignedSegmentation]]
    )
    """By the server's key and the plan."""
    proofs: list[EquivocationProof] = field(default_factory=list[EquivocationProof])
    witnessed: list[tuple[CheckedLog, WitnessState]] = field(default_factory=list[tuple[CheckedLog, WitnessState]])

    def run(self) -> Review:
        for name, data in self.files.items():
            self._open(name, data)
        for place, member in self.members:
            if member.role is Role.LEDGER:
                self._check_ledger(place, member.data)
        if not (self.findings or self.ledgers):
            self._accuse(Fault.EMPTY, ", ".join(self.files), "there is no ledger in it")
        self._require_one_key_a_name()
        self._compare_histories()
        servers, units = self._newest("server"), self._newest("unit")
        self._compare_with_notes(servers, units)
        for server in servers:
            self._compare_with_units(server, units)
        for place, member in self.members:
            self._check_file(place, member, servers, units)
        self._remark(servers, units)
        newest = [(log.id, log.newest) for log in self.logs]
        memory = self.memory if self.findings else self.memory.with_newer(newest)
        return Review(
            tuple(self.members),
            tuple(self.logs),
            tuple(self.findings),
            tuple(self.remarks),
            tuple(dict.fromkeys(self.proofs)),
            memory,
            tuple(self.witnessed),
        )

    def _accuse(self, fault: Fault, where: str, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(fault, where, _printable(what)))

    def _accuse_of(self, error: VerificationError, where: str) -> None:
        self._accuse(fault_of(error), where, error.why)

    # Each file by itself

    def _open(self, name: str, data: bytes) -> None:
        try:
            if data.startswith(PROOF_START):
                self._add_fork(name, EquivocationProof.from_json(data))
                return
            prefix = f"{name}: " if len(self.files) > 1 else ""
            self.members += [(f"{prefix}{member.name}", member) for member in unpack(data)]
        except VerificationError as error:
            self._accuse_of(error, name)

    def _check_ledger(self, place: str, data: bytes) -> None:
        try:
            raw = parse_log(data)
            self.ledgers.append((place, raw))
            key, source = self._key_of(raw)
            self.logs.append(CheckedLog(place, verify_raw(raw, key), source))
        except VerificationError as error:
            self._accuse_of(error, place)

    def _key_of(self, raw: RawLedger) -> tuple[PublicKey | None, KeySource]:
        """The key a ledger must be signed with, and who says so."""
        for name in (raw.origin, _short_name(raw)):
            if name in self.keys:
                return self.keys[name], KeySource.GIVEN
        seen = self.memory.keys_of(raw.origin)
        if seen:
            own = raw.public_key.to_text()
            return PublicKey.from_text(own if own in seen else min(seen)), KeySource.REMEMBERED
        return None, KeySource.BUNDLE

    def _require_one_key_a_name(self) -> None:
        """Whose ledger it is must not depend on which of them somebody looks at."""
        places: defaultdict[str, dict[PublicKey, str]] = defaultdict(dict)
        for place, raw in self.ledgers:
            places[raw.origin].setdefault(raw.public_key, place)
        for origin, found in places.items():
            if len(found) > 1:
                why = f"ledgers of {origin} are signed with {len(found)} different keys"
                self._accuse(Fault.KEY, " against ".join(list(found.values())[:2]), why)

    # Histories

    def _compare_histories(self) -> None:
        """Of all copies of a log, each must be the beginning of the longest; and each goes on from what was seen."""
        longest: dict[LogId, tuple[str, RawLedger]] = {}
        known: defaultdict[LogId, dict[int, SignedCheckpoint]] = defaultdict(dict)
        for place, raw in sorted(self.ledgers, key=lambda one: -len(one[1].entries)):
            log, signed = _id_of(raw), signed_checkpoints(raw)
            self._compare_with_memory(place, raw, signed)
            other_place, other = longest.setdefault(log, (place, raw))
            places = f"{other_place} against {place}"
            if (proof := fork(log, known[log], signed)) is not None:
                self._add_fork(places, proof)
            elif raw.entries != other.entries[: len(raw.entries)]:
                self._accuse(Fault.REWRITTEN, places, f"they hold two histories of {raw.origin}")
            for size, one in signed.items():
                known[log].setdefault(size, one)

    def _compare_with_memory(self, place: str, raw: RawLedger, signed: Mapping[int, SignedCheckpoint]) -> None:
        log = _id_of(raw)
        if (seen := self.memory.seen.get(log)) is not None:
            size = seen.checkpoint.size
            if (proof := fork(log, signed, {size: seen})) is not None:
                self._add_fork(place, proof)
            elif len(raw.entries) < size:
                why = f"it has {len(raw.entries)} entries; {size} were seen before"
                self._accuse(Fault.SHORTER, place, why)
            elif root_at(raw, size) != seen.checkpoint.root:
                why = f"its first {size} entries are not those that were seen before"
                self._accuse(Fault.REWRITTEN, place, why)

    def _compare_with_notes(self, servers: Sequence[CheckedLog], units: Sequence[CheckedLog]) -> None:
        """A ledger holds what its own key has signed for its witnesses."""
        notes = {log.where: self._notes_of(log) for log in [*servers, *units]}
        states = [(unit, witness_state(unit.facts, notes[unit.where])) for unit in units]
        for server in servers:
            found = beside(server.facts.raw, notes[server.where])
            state = server_witnesses(server.facts.size, found, [state for _, state in states])
            self.witnessed.append((server, state))
        self.witnessed += states
        for log, state in self.witnessed:
            nothing = f"what lies beside {log.where} as a cosigned checkpoint counts for nothing"
            self.remarks += [f"{nothing}: {why}" for why in state.unusable]

    def _notes_of(self, log: CheckedLog) -> list[bytes]:
        """What lies beside a ledger as cosigned checkpoints, but for what contradicts it."""
        kept: list[bytes] = []
        for place, note in self.members:
            if note.role is Role.COSIGNED and note.owner == log.facts.origin:
                found = contradiction(log.facts.raw, note.data)
                if found is None:
                    kept.append(note.data)
                    continue
                self._accuse(found.fault, f"{log.where} against {place}", found.what)
                self.proofs += [found.proof] if found.proof is not None else []
        return kept

    def _add_fork(self, where: str, proof: EquivocationProof) -> None:
        self.proofs.append(proof)
        self._accuse(Fault.FORK, where, proof.in_words)

    def _newest(self, role: str) -> list[CheckedLog]:
        """Of each log of this role that checks out, the longest copy."""
        longest: dict[LogId, CheckedLog] = {}
        for log in self.logs:
            if log.facts.role == role and (log.id not in longest or log.facts.size > longest[log.id].facts.size):
                longest[log.id] = log
        return list(longest.values())

    # One against the other

    def _compare_with_units(self, server: CheckedLog, units: Sequence[CheckedLog]) -> None:
        for plan in _plans_run(server.facts):
            for unit in units:
                if plan.unit_index(unit.facts.unit) is None:
                    continue
                where = f"{server.where} against {unit.where}"
                self._add(where, cross.of_unit(server.facts, unit.facts, plan))
                if rounds := [str(one.step + 1) for one in cross.uncounted(server.facts, unit.facts, plan)]:
                    self.remarks.append(
                        f"{unit.facts.unit} charged a release in round {', '.join(rounds)} of plan {plan.digest[:12]} "
                        "that the server's ledger does not have: it was lost or came too late, or that ledger is older"
                    )

    def _check_file(
        self, place: str, member: Member, servers: Sequence[CheckedLog], units: Sequence[CheckedLog]
    ) -> None:
        if member.role is Role.PLAN:
            self._check_plan(place, member.data, [*servers, *units])
        elif member.role is Role.COSIGNED:
            self._require_owner(place, member, "it is cosigned")
        elif member.role is Role.POLICY:
            self._check_policy(place, member, units)
        elif member.role is Role.SEGMENTATION:
            self._check_segmentation(place, member.data, servers, units)

    def _check_plan(self, place: str, document: bytes, logs: Sequence[CheckedLog]) -> None:
        try:
            digest = parse_plan(document).digest
        except FedsegError as error:
            self._accuse(Fault.STRAY, place, f"it is not a plan: {error.why}")
            return
        self._require_logged(place, digest, logs)

    def _check_policy(self, place: str, member: Member, units: Sequence[CheckedLog]) -> None:
        self._require_owner(place, member, "it is in force")
        for unit in units:
            if unit.facts.origin == member.owner:
                self._add(place, cross.of_policy(member.data, unit.facts))

    def _require_owner(self, place: str, member: Member, what: str) -> None:
        if member.owner not in {raw.origin for _, raw in self.ledgers}:
            self._accuse(Fault.STRAY, place, f"no ledger of {member.owner} is here, so nobody can tell whether {what}")

    def _check_segmentation(
        self, place: str, document: bytes, servers: Sequence[CheckedLog], units: Sequence[CheckedLog]
    ) -> None:
        try:
            signed = parse_signed(document)
        except VerificationError as error:
            self._accuse(Fault.PUBLICATION, place, error.why)
            return
        plan = signed.segmentation.plan_sha256
        self._require_logged(place, plan, servers or units)
        for unit in units:
            self._add(place, cross.of_counted_unit(signed, unit.facts))
        for server in servers:
            if plan in cross.plans_in(server.facts):
                self._add(place, cross.of_segmentation(signed, server.facts))
        if not servers:
            self._check_without_server(place, signed, units)
        self._require_one_result(place, signed)

    def _check_without_server(self, place: str, signed: SignedSegmentation, units: Sequence[CheckedLog]) -> None:
        """Without a server's ledger there are the signature and what the units approved."""
        self._require_servers_key(place, signed)
        name = f"plan:{signed.segmentation.plan_sha256}"
        documents = [unit.facts.raw.payloads[name] for unit in units if name in unit.facts.raw.payloads]
        if documents:
            self._add(place, cross.of_terms(signed, parse_plan(documents[0])))

    def _require_one_result(self, place: str, signed: SignedSegmentation) -> None:
        """A plan has one result; whoever signs two has shown different segments to different people."""
        run = (signed.public_key.to_text(), signed.segmentation.plan_sha256)
        other_place, other = self.results.setdefault(run, (place, signed))
        if other != signed:
            why = f"the key {signed.public_key.fingerprint()} signed two different results of plan {run[1][:12]}"
            self._accuse(Fault.RESULTS, f"{other_place} against {place}", why)

    def _require_servers_key(self, place: str, signed: SignedSegmentation) -> None:
        """The signature must be of the key that was given for the server."""
        key = self.keys.get("server", self.keys.get("fedseg/server"))
        if key is not None and key != signed.public_key:
            why = f"it is signed with the key {signed.public_key.fingerprint()}, wanted {key.fingerprint()}"
            self._accuse(Fault.KEY, place, why)

    def _require_logged(self, place: str, plan: str, logs: Sequence[CheckedLog]) -> None:
        if logs and not any(plan in cross.plans_in(log.facts) for log in logs):
            why = f"no ledger here logs a run of its plan, {plan[:12]}"
            self._accuse(Fault.STRAY, place, why)

    def _add(self, where: str, found: Iterable[cross.Disagreement]) -> None:
        for fault, what in found:
            self._accuse(fault, where, what)

    # What is no fault

    def _remark(self, servers: Sequence[CheckedLog], units: Sequence[CheckedLog]) -> None:
        if self.members and not servers:
            self.remarks.append(
                "no server's ledger is here that checks out: the segments were not recomputed, and nobody has seen "
                "which releases were counted"
            )
        here, plans = {log.facts.unit for log in units}, dict[str, Plan]()
        for server in servers:
            plans |= {plan.digest: plan for plan in _plans_run(server.facts)}
        absent = sorted({unit.name for plan in plans.values() for unit in plan.units} - here)
        if absent:
            self.remarks.append(
                f"no ledger that checks out is here of {', '.join(absent)}: whether they charged what the server "
                "counted is not known"
            )
        for log in [*servers, *units]:
            if len(log.facts.keys) > 1:
                name, now = _short_name(log.facts.raw), log.facts.public_key.fingerprint()
                self.remarks.append(
                    f"{name} has replaced its key, and has {now} now: compare that by telephone and verify with it, "
                    "for an old key may be in other hands"
                )
        unknown = sorted(set(self.keys) - {name for _, raw in self.ledgers for name in (raw.origin, _short_name(raw))})
        if unknown:
            self.remarks.append(f"keys were given of {', '.join(unknown)}, but no ledger of theirs is here")


def _id_of(raw: RawLedger) -> LogId:
    return LogId(raw.origin, raw.public_key.to_text())


def _short_name(raw: RawLedger) -> str:
    """What people call a log by: its unit's name, or `server`."""
    return raw.origin.removeprefix("fedseg/unit/").removeprefix("fedseg/")


def _plans_run(server: LedgerFacts) -> Iterator[Plan]:
    for entry in server.raw.entries:
        if entry.kind == "plan" and entry.payload is not None:
            yield parse_plan(server.raw.payloads[entry.payload.id])


def _printable(text: str) -> str:
    """A text that may quote what somebody hostile wrote, for a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)[:_TEXT_LIMIT]
