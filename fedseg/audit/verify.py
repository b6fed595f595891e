"""Recompute every claim of a ledger from its signed bytes: charges, totals, caps, outputs, the segmentation itself.

Pure but for reading files. An auditor needs the file and the key it should be signed with, and trusts nobody else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from fedseg.errors import BudgetError, FedsegError, VerificationError
from fedseg.ledger.canonical import Json
from fedseg.ledger.entries import Entry
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.reading import RawLedger, check_log, read_ledger
from fedseg.plan import Plan, caps_of, parse_plan
from fedseg.policy.document import load_policy
from fedseg.privacy.account import AccountState, apply_entry, replay
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.mechanism import recompute
from fedseg.privacy.noise import SystemNoise
from fedseg.privacy.release import NEIGHBOURING_RELATION, release_id
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from fedseg.server.contribution import parse_contribution
from fedseg.server.publish import publish
from fedseg.server.rounds import replay_run


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that does not check out."""

    code: str
    what: str


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """One release, as recomputed."""

    plan_sha256: str
    step: int
    release_id: str
    integers: int
    sigma: int
    l2_sensitivity_squared: int
    rho: Fraction
    rho_spent_after: Fraction
    noise_source: str
    output_sha256: str


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What a ledger proves. For a server's ledger the account part is empty."""

    origin: str
    role: str
    unit: str
    """Name of the unit; empty for a server."""
    public_key: PublicKey
    size: int
    root: bytes
    account: AccountState
    releases: tuple[ReleaseFact, ...]
    raw: RawLedger

    @property
    def simulated(self) -> bool:
        """Whether any noise came from elsewhere than the system's randomness: then nothing here is private."""
        return any(source != SystemNoise.label for source in self.account.noise_sources)


def verify_ledger(path: Path, public_key: PublicKey | None = None) -> LedgerFacts:
    """Read a ledger file, a unit's or a server's, live or exported, and recompute everything in it.

    Args:
        path: The file; it is only read, and from a copy.
        public_key: The key it should be signed with; None trusts the key the file itself names, and then a ledger
            rewritten as a whole under another key is not found.

    Raises:
        VerificationError: At the first thing that does not check out.
    """
    raw = read_ledger(path)
    checkpoint = check_log(raw, public_key)
    genesis = raw.entries[0].body
    role, unit = genesis.get("role"), genesis.get("unit", "")
    if role not in ("unit", "server") or not isinstance(unit, str):
        raise _failed("the first entry does not say whose ledger this is")
    releases: tuple[ReleaseFact, ...] = ()
    account = AccountState()
    if role == "unit":
        account = replay(raw.entries)
        releases = _check_unit(raw, account)
    else:
        _check_server(raw)
    return LedgerFacts(
        raw.origin, str(role), unit, raw.public_key, checkpoint.size, checkpoint.root, account, releases, raw
    )


def ledger_failures(path: Path, public_key: PublicKey | None = None) -> tuple[LedgerFacts | None, list[Failure]]:
    """`verify_ledger` with its failure as a value: what `fedseg ledger verify` prints."""
    try:
        return verify_ledger(path, public_key), []
    except VerificationError as error:
        return None, [Failure(error.code, f"{error.what}: {error.why}")]


def recompute_segmentation(server: LedgerFacts, plan: Plan) -> SignedSegmentation:
    """The segmentation that the server's logged contributions determine, checked against the published one.

    Raises:
        VerificationError: If the published segmentation is not what the contributions give, or is not there.
    """
    run = replay_run(plan, server.raw.entries, server.raw.payloads)
    published = server.raw.payloads.get(f"segmentation:{plan.digest}")
    if published is None or run.request is not None:
        raise _failed("the plan has not been published")
    signed = parse_signed(published)
    if signed.public_key != server.public_key:
        raise _failed("the segmentation is signed with another key than the server's ledger")
    units = tuple(unit.name for unit in plan.units if unit.name in run.units)
    if publish(plan, run.state, units) != signed.segmentation:
        raise _failed("the published segments are not those that the logged contributions give")
    return signed


def check_against_units(server: LedgerFacts, units: Iterable[LedgerFacts], plan: Plan) -> None:
    """Every contribution the server counted stands in its unit's ledger, bit for bit.

    Raises:
        VerificationError: If one does not, or a unit's ledger is signed with another key than the plan's.
    """
    sent: dict[str, dict[str, str]] = {}
    for facts in units:
        index = plan.unit_index(facts.unit)
        if index is None or plan.units[index].public_key != facts.public_key.to_text():
            raise _failed(f"the ledger of {facts.unit} is not signed with the key the plan names")
        sent[facts.unit] = {one.release_id: one.output_sha256 for one in facts.releases}
    for entry in server.raw.entries:
        if entry.kind != "contribution" or entry.body["plan_sha256"] != plan.digest:
            continue
        unit, wanted = str(entry.body["unit"]), _payload_sha256(entry)
        if unit in sent and sent[unit].get(str(entry.body["release_id"])) != wanted:
            raise _failed(f"the server counted a release that is not in the ledger of {unit}")


def _check_unit(raw: RawLedger, account: AccountState) -> tuple[ReleaseFact, ...]:
    """Recompute every approval and release of a unit's ledger, in order."""
    facts: list[ReleaseFact] = []
    plans: dict[str, Plan] = {}
    before = AccountState()
    for index, entry in enumerate(raw.entries):
        try:
            if entry.kind == "policy":
                _check_policy(entry, raw)
            elif entry.kind == "approval":
                plan = _check_approval(entry, raw, before)
                plans[plan.digest] = plan
            elif entry.kind == "release":
                unit = str(raw.entries[0].body["unit"])
                facts.append(_check_release(entry, raw, before, plans[str(entry.body["plan_sha256"])], unit))
        except VerificationError:
            raise
        except (FedsegError, KeyError, ValueError, TypeError) as error:
            raise _failed(f"entry {index} ({entry.kind}) does not check out: {error}") from error
        before = apply_entry(before, entry)
    if account.caps is not None and account.rho_spent > account.rho_reserved:
        raise _failed("more was spent than reserved")
    return tuple(facts)


def _check_policy(entry: Entry, raw: RawLedger) -> None:
    policy = load_policy(raw.payloads[_texts(entry.body["payload"])["id"]])
    caps = caps_of(policy)
    limits: dict[str, Json] = {name: fraction_text(rho) for name, rho in caps.purpose_rho_caps.items()}
    _require(entry.body, entry.seq, policy_id=policy.id, policy_sha256=caps.policy_sha256, purpose_rho_caps=limits)
    _require(entry.body, entry.seq, rho_cap=fraction_text(caps.rho_cap), delta=fraction_text(caps.delta))


def _check_approval(entry: Entry, raw: RawLedger, before: AccountState) -> Plan:
    plan = parse_plan(raw.payloads[f"plan:{entry.body['plan_sha256']}"])
    rhos = [fraction_text(rho) for rho in plan.step_rhos]
    if (
        plan.digest != entry.body["plan_sha256"]
        or plan.purpose != entry.body["purpose"]
        or rhos != entry.body["step_rhos"]
    ):
        raise _failed(f"approval {entry.seq} does not say what the approved plan says")
    rho = sum(plan.step_rhos, Fraction(0))
    try:
        before.require_room(plan.purpose, rho)
    except BudgetError as error:
        raise _failed(f"approval {entry.seq} reserved more than the cap") from error
    if entry.body["rho_reserved_after"] != fraction_text(before.rho_reserved + rho):
        raise _failed(f"approval {entry.seq} states another total than its ledger gives")
    if before.caps is None or entry.body["policy_sha256"] != before.caps.policy_sha256:
        raise _failed(f"approval {entry.seq} names another policy than the one in force")
    return plan


def _check_release(entry: Entry, raw: RawLedger, before: AccountState, plan: Plan, unit: str) -> ReleaseFact:
    body = entry.body
    step, mechanism, charge = body["step"], _numbers(body["mechanism"]), _texts(body["charge"])
    if not isinstance(step, int) or not 0 <= step < plan.rounds:
        raise _failed(f"release {entry.seq} is of a step that is not in its plan")
    terms = plan.terms[step]
    again = recompute(charge["formula"], mechanism)
    if charge != {"rho": fraction_text(again.rho), "delta": fraction_text(again.delta), "formula": again.formula}:
        raise _failed(f"release {entry.seq} states another charge than its mechanism gives")
    if mechanism != {"sigma": terms.mechanism.sigma, "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared}:
        raise _failed(f"release {entry.seq} used another mechanism than the approved plan's")
    before.require_step(plan.digest, step, str(body["release_id"]), again)
    _require(
        body,
        entry.seq,
        rho_spent_after=fraction_text(before.rho_spent + again.rho),
        neighbouring_relation=NEIGHBOURING_RELATION,
    )
    _require(body, entry.seq, unit=unit, release_id=release_id(plan.digest, unit, step, str(body["request_sha256"])))
    _require(body, entry.seq, cells=terms.cells, width=terms.width)
    _require(body, entry.seq, lattice={"count_weight": terms.lattice.count_weight, "unit": terms.lattice.unit})
    contribution = parse_contribution(raw.payloads[f"release:{body['release_id']}"], plan)
    if (contribution.unit, contribution.step, contribution.release_id) != (unit, step, body["release_id"]):
        raise _failed(f"the bytes of release {entry.seq} are of another release")
    return ReleaseFact(
        plan_sha256=plan.digest,
        step=step,
        release_id=contribution.release_id,
        integers=terms.length,
        sigma=terms.mechanism.sigma,
        l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
        rho=again.rho,
        rho_spent_after=before.rho_spent + again.rho,
        noise_source=str(body["noise_source"]),
        output_sha256=_payload_sha256(entry),
    )


def _check_server(raw: RawLedger) -> None:
    """Every contribution parses under its plan, and every publication follows from the contributions before it."""
    try:
        for entry in raw.entries:
            if entry.kind == "contribution":
                plan = _logged_plan(raw, entry)
                found = parse_contribution(raw.payloads[f"contribution:{entry.body['release_id']}"], plan)
                _require(
                    entry.body,
                    entry.seq,
                    unit=found.unit,
                    step=found.step,
                    release_id=found.release_id,
                    request_sha256=found.request_sha256,
                )
            elif entry.kind not in ("genesis", "plan", "round", "publication"):
                raise _failed(f"entry {entry.seq} is of a kind no server writes")
            elif entry.kind == "publication":
                plan = _logged_plan(raw, entry)
                signed = parse_signed(raw.payloads[f"segmentation:{plan.digest}"])
                run = replay_run(plan, raw.entries[: entry.seq], raw.payloads)
                units = tuple(unit.name for unit in plan.units if unit.name in run.units)
                if (
                    signed.public_key != raw.public_key
                    or run.request is not None
                    or publish(plan, run.state, units) != signed.segmentation
                ):
                    raise _failed("the published segments are not those that the logged contributions give")
    except VerificationError:
        raise
    except (FedsegError, KeyError, ValueError, TypeError) as error:
        raise _failed(f"an entry of the server's ledger does not check out: {error}") from error


def _logged_plan(raw: RawLedger, entry: Entry) -> Plan:
    return parse_plan(raw.payloads[f"plan:{entry.body['plan_sha256']}"])


def _require(body: Mapping[str, Json], seq: int, **wanted: Json) -> None:
    for name, value in wanted.items():
        if body[name] != value:
            raise _failed(f"entry {seq} states another {name.replace('_', ' ')} than follows from its facts")


def _payload_sha256(entry: Entry) -> str:
    return _texts(entry.body["payload"])["sha256"]


def _texts(value: Json) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return {name: one for name, one in value.items() if isinstance(one, str)}


def _numbers(value: Json) -> dict[str, int]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return {name: one for name, one in value.items() if isinstance(one, int)}


def _failed(what: str) -> VerificationError:
    return VerificationError("verification failed", why=what, fix="keep the file as evidence, and ask its owner")
