"""From a ledger's bytes to what it says: verified by itself first, in as many processes as there are cores.

A unit's ledger is replayed as an audit does it. Of the server's, signatures, forms and every contribution are checked;
its segments are not computed anew, since nothing in an officer's report rests on them: `fedseg audit verify` does that.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import get_context

from fedseg.audit.entries import (
    ContributionBody,
    GenesisBody,
    PlanBody,
    PublicationBody,
    RoundBody,
    ServerKeyChangeBody,
    checking,
    failed,
    read_body,
)
from fedseg.audit.faults import Fault, fault_of
from fedseg.audit.histories import root_at
from fedseg.audit.log import parse_log, verify_log
from fedseg.audit.verify import verify_raw
from fedseg.audit.witnesses import WitnessState, beside, contradiction, server_witnesses, witness_state
from fedseg.errors import VerificationError
from fedseg.ledger.entries import KEY_CHANGE, Entry
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.raw import RawLedger
from fedseg.plan import parse_plan
from fedseg.privacy.budget import parse_fraction
from fedseg.privacy.entries import (
    ApprovalBody,
    ClosingBody,
    DecisionBody,
    KeyChangeBody,
    PolicyBody,
    RefusalBody,
    ReleaseBody,
    RightsBatchBody,
    StartBody,
)
from fedseg.report.facts import whose_word
from fedseg.report.model import FailureFact
from fedseg.report.officer.records import (
    Approval,
    Closing,
    Decision,
    Event,
    Log,
    Policy,
    Publication,
    Refusal,
    SentRelease,
    ServerRecord,
    UnitRecord,
)
from fedseg.segments.segmentation import parse_signed

PARALLEL_BYTES = 4 * 1024 * 1024
"""Ledgers of fewer bytes together are read in this process: to start another would take longer."""


@dataclass(frozen=True, slots=True)
class Task:
    """A ledger to read."""

    where: str
    """Its place in the bundle."""
    data: bytes
    keys: Mapping[str, str]
    """Keys that somebody vouches for, by unit, `server` or origin."""
    seen: Mapping[str, tuple[int, str]]
    """Size and root of each log at the last sign-off, by origin."""
    notes: Mapping[str, Sequence[bytes]] = field(default_factory=dict[str, Sequence[bytes]])
    """What lies beside the ledgers as cosigned checkpoints, by origin."""


Found = UnitRecord | ServerRecord | FailureFact


def read_all(tasks: Sequence[Task]) -> list[Found]:
    """What each ledger says, or why it does not check out; in the order of the tasks."""
    workers = min(os.cpu_count() or 1, len(tasks))
    # A process with threads is not forked: a lock that another thread holds would stay held for ever.
    alone = threading.active_count() == 1
    if workers == 1 or not alone or sum(len(task.data) for task in tasks) < PARALLEL_BYTES:
        return [read(task) for task in tasks]
    longest_first = sorted(range(len(tasks)), key=lambda place: -len(tasks[place].data))
    # A forked process has the tasks already: what is sent to it is a place among them.
    with ProcessPoolExecutor(workers, get_context("fork"), _inherit, (tasks,)) as pool:
        found = dict(zip(longest_first, pool.map(_read_inherited, longest_first), strict=True))
    return [found[place] for place in range(len(tasks))]


_inherited = list[Task]()
"""The tasks, in a process that was forked to read some of them."""


def _inherit(tasks: Sequence[Task]) -> None:
    _inherited[:] = tasks


def _read_inherited(place: int) -> Found:
    return read(_inherited[place])


def read(task: Task) -> Found:
    """What one ledger says, or why it does not check out."""
    try:
        raw = parse_log(task.data)
        named = read_body(raw.entries[0], GenesisBody)
        if not named.is_named:
            raise failed(Fault.OWNER, "the first entry does not say whose ledger this is")
        key = _key_of(task, raw)
        if named.role == "unit":
            return _unit(task, raw, key, named.unit)
        return _server(task, raw, key)
    except VerificationError as error:
        return FailureFact(task.where, fault_of(error).code, error.why)


def _key_of(task: Task, raw: RawLedger) -> PublicKey | None:
    names = (raw.origin, raw.origin.removeprefix("fedseg/unit/").removeprefix("fedseg/"))
    return next((PublicKey.from_text(task.keys[name]) for name in names if name in task.keys), None)


def _log(task: Task, raw: RawLedger, key: PublicKey | None, name: str, witnesses: WitnessState) -> Log:
    newest, _ = raw.notes[-1]
    keys = raw.keys()
    size, root = task.seen.get(raw.origin, (None, ""))
    if size is not None:
        if len(raw.entries) < size:
            raise failed(Fault.SHORTER, f"it has {len(raw.entries)} entries; {size} were there at the last sign-off")
        if root_at(raw, size).hex() != root:
            raise failed(Fault.REWRITTEN, f"its first {size} entries are not those of the last sign-off")
    return Log(
        where=task.where,
        origin=raw.origin,
        role=witnesses.role,
        name=name,
        size=newest,
        root=raw.history().root(newest).hex(),
        public_key=keys.in_force.to_text(),
        keys=tuple(one.to_text() for one in keys.all),
        fingerprint=keys.in_force.fingerprint(),
        key_given=key is not None,
        witnesses=witnesses,
        goes_on_from=size,
    )


def _notes(task: Task, raw: RawLedger) -> Sequence[bytes]:
    """What lies beside a ledger as cosigned checkpoints, of which none contradicts it."""
    notes = task.notes.get(raw.origin, ())
    for note in notes:
        if (found := contradiction(raw, note)) is not None:
            raise failed(found.fault, found.what)
    return notes


# A unit's


def _unit(task: Task, raw: RawLedger, key: PublicKey | None, name: str) -> UnitRecord:
    facts = verify_raw(raw, key)
    days = _days(raw.entries)
    by_kind: dict[str, list[tuple[int, str, Entry]]] = {}
    for entry, day in zip(raw.entries, days, strict=True):
        by_kind.setdefault(entry.kind, []).append((entry.seq, day, entry))
    releases = tuple(
        SentRelease(
            entry=seq,
            day=day,
            plan_sha256=one.plan_sha256,
            step=one.step,
            release_id=one.release_id,
            sha256=one.output_sha256,
            integers=one.integers,
            sigma=one.sigma,
            l2_sensitivity_squared=one.l2_sensitivity_squared,
            rho=one.rho,
            rho_spent_after=one.rho_spent_after,
            noise_source=one.noise_source,
            software=str(entry.body["software"]),
        )
        for (seq, day, entry), one in zip(by_kind.get(ReleaseBody.kind, ()), facts.releases, strict=True)
    )
    approvals = by_kind.get(ApprovalBody.kind, [])
    return UnitRecord(
        log=_log(task, raw, key, name, witness_state(facts, _notes(task, raw))),
        plans={str(one.body["plan_sha256"]): raw.payloads[_payload(one)] for _, _, one in approvals},
        policies=tuple(_policy(seq, day, raw, one) for seq, day, one in by_kind.get(PolicyBody.kind, ())),
        approvals=tuple(_approval(seq, day, one) for seq, day, one in approvals),
        releases=releases,
        refusals=tuple(
            Refusal(seq, day, str(one.body["plan_sha256"])) for seq, day, one in by_kind.get(RefusalBody.kind, ())
        ),
        closings=tuple(
            Closing(seq, day, str(one.body["plan_sha256"]), str(one.body["ending"]), _rho(one, "rho_returned"))
            for seq, day, one in by_kind.get(ClosingBody.kind, ())
        ),
        decisions=tuple(
            Decision(seq, day, *(str(one.body[name]) for name in ("plan_sha256", "verdict", "officer")))
            for seq, day, one in by_kind.get(DecisionBody.kind, ())
        ),
        events=tuple(Event(seq, day, what) for kind, what in _EVENTS.items() for seq, day, _ in by_kind.get(kind, ())),
        newest_day=facts.account.newest_day,
    )


_EVENTS = {StartBody.kind: "process start", RightsBatchBody.kind: "rights requests", KeyChangeBody.kind: "key change"}
_DAY_FIELDS = ("made_on", "approved_at", "refused_on", "closed_on", "released_on", "changed_on", "started_on")


def _days(entries: Sequence[Entry]) -> list[str]:
    """The day of each entry; one without its own has that of the next with one, or else of the one before."""
    found = [next((str(one.body[name]) for name in _DAY_FIELDS if name in one.body), "") for one in entries]
    newest = max(found, default="")
    following = newest
    for place in reversed(range(len(found))):
        following = found[place] = found[place] or following
    return found


def _policy(seq: int, day: str, raw: RawLedger, entry: Entry) -> Policy:
    body = PolicyBody.model_validate(dict(entry.body))
    return Policy(
        entry=seq,
        day=day,
        sha256=body.policy_sha256,
        rho_cap=body.rho_cap,
        delta=body.delta,
        purpose_rho_caps=body.purpose_rho_caps,
        required=body.approvals.required,
        is_witnessed=body.witnesses is not None and body.witnesses.quorum > 0,
        signed_by=tuple(one.officer for one in body.signatures),
        document=raw.payloads[_payload(entry)],
    )


def _approval(seq: int, day: str, entry: Entry) -> Approval:
    rhos = entry.body["step_rhos"]
    steps = [parse_fraction(str(one)) for one in rhos] if isinstance(rhos, list) else []
    return Approval(
        entry=seq,
        day=day,
        plan_sha256=str(entry.body["plan_sha256"]),
        purpose=str(entry.body["purpose"]),
        rho=sum(steps, Fraction(0)),
        rho_dearest=max(steps, default=Fraction(0)),
        steps=len(steps),
        by=whose_word({"officers": [], "automatic": False, **entry.body}),
        expires_on=str(entry.body.get("expires_on", "")),
    )


def _rho(entry: Entry, name: str) -> Fraction:
    return parse_fraction(str(entry.body[name]))


def _payload(entry: Entry) -> str:
    if entry.payload is None:
        raise failed(Fault.FIELDS, f"entry {entry.seq} ({entry.kind}) vouches for nothing")
    return entry.payload.id


# The server's


def _server(task: Task, raw: RawLedger, key: PublicKey | None) -> ServerRecord:
    verify_log(raw, key)
    found = beside(raw, _notes(task, raw))
    log = _log(task, raw, key, "server", server_witnesses(len(raw.entries), found, ()))
    plans: dict[str, bytes] = {}
    counted: dict[tuple[str, str, int], tuple[str, str]] = {}
    rounds: dict[tuple[str, int], tuple[str, ...]] = {}
    published: dict[str, Publication] = {}
    for entry in raw.entries[1:]:
        with checking(entry, Fault.FIELDS):
            match entry.kind:
                case "plan":
                    body = read_body(entry, PlanBody)
                    document = raw.payloads[body.payload.id]
                    if parse_plan(document).digest != body.plan_sha256 or body.plan_sha256 in plans:
                        raise failed(Fault.SERVER_PLAN, f"plan {entry.seq} is not the plan it says, or is there twice")
                    plans[body.plan_sha256] = document
                case "contribution":
                    sent = read_body(entry, ContributionBody)
                    _require_run(sent.plan_sha256, plans, entry)
                    counted[sent.plan_sha256, sent.unit, sent.step] = (sent.release_id, sent.payload.sha256)
                case "round":
                    closed = read_body(entry, RoundBody)
                    _require_run(closed.plan_sha256, plans, entry)
                    _require_counted(closed, counted, entry)
                    rounds[closed.plan_sha256, closed.step] = tuple(closed.units)
                case "publication":
                    result = read_body(entry, PublicationBody)
                    _require_run(result.plan_sha256, plans, entry)
                    published[result.plan_sha256] = _publication(raw, entry, result, log)
                case _ if entry.kind == KEY_CHANGE:
                    read_body(entry, ServerKeyChangeBody)
                case _:
                    raise failed(Fault.KIND, f"entry {entry.seq} is of a kind no server writes")
    return ServerRecord(log, plans, counted, published, found, rounds)


def _require_run(plan: str, plans: Mapping[str, bytes], entry: Entry) -> None:
    if plan not in plans:
        raise failed(Fault.SERVER_PLAN, f"entry {entry.seq} ({entry.kind}) is of a plan that was not begun")


def _require_counted(closed: RoundBody, counted: Mapping[tuple[str, str, int], tuple[str, str]], entry: Entry) -> None:
    missing = [unit for unit in closed.units if (closed.plan_sha256, unit, closed.step) not in counted]
    if missing or closed.units != sorted(set(closed.units)):
        raise failed(Fault.ROUND, f"round {entry.seq} counts units that have not contributed, or one twice")


def _publication(raw: RawLedger, entry: Entry, body: PublicationBody, log: Log) -> Publication:
    with checking(entry, Fault.PUBLICATION):
        signed = parse_signed(raw.payloads[body.payload.id])
    said = signed.segmentation
    if signed.public_key.to_text() not in log.keys:
        raise failed(Fault.PUBLICATION, "the segmentation is signed with another key than the server's ledger")
    if (said.plan_sha256, said.units) != (body.plan_sha256, tuple(body.units)):
        raise failed(Fault.PUBLICATION, f"publication {entry.seq} does not say what its segmentation says")
    shown = sum(1 for one in said.segments if not one.suppressed) + sum(1 for one in said.bounds if one.found)
    return Publication(entry.seq, body.payload.sha256, shown, said.noise)


def known_plans(units: Sequence[UnitRecord], server: ServerRecord | None) -> Iterator[tuple[str, bytes]]:
    """Documents of all plans, by hash; a plan may come more than once."""
    for unit in units:
        yield from unit.plans.items()
    if server is not None:
        yield from server.plans.items()
