"""What one piece of evidence says held against another: contributions against charges, files against ledgers.

Every function takes verified facts and yields what does not agree, at most once for each fault and pair; pure.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from fedseg.audit.facts import LedgerFacts, ReleaseFact
from fedseg.audit.faults import Fault
from fedseg.errors import FedsegError
from fedseg.plan import Plan
from fedseg.policy.document import load_policy
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.noise import SystemNoise
from fedseg.segments.segmentation import SignedSegmentation


class Disagreement(NamedTuple):
    """Something that two pieces of evidence say differently."""

    fault: Fault
    what: str


def of_unit(server: LedgerFacts, unit: LedgerFacts, plan: Plan) -> Iterator[Disagreement]:
    """What the server's ledger says of a unit's releases, against what the unit charged.

    Every contribution the server logged must be in the unit's ledger, bit for bit. That is also the reverse: a unit
    answers a round once, so what it charged in a round that was closed with it is what the server counted, or differs.
    """
    index = plan.unit_index(unit.unit)
    if index is None or plan.units[index].public_key not in {key.to_text() for key in unit.keys}:
        yield Disagreement(Fault.PLAN_KEY, f"the ledger of {unit.unit} is not signed with the key the plan names")
        return
    charged = {one.step: one for one in unit.releases if one.plan_sha256 == plan.digest}
    counted = list(_counted(server, unit.unit, plan))
    missing = [step for step, _, _ in counted if step not in charged]
    if missing:
        why = f"the server counted a release of round {missing[0] + 1} that is not in the ledger of {unit.unit}"
        yield Disagreement(Fault.UNCHARGED, why)
    for step, release_id, sha256 in counted:
        if step in charged and (charged[step].release_id, charged[step].output_sha256) != (release_id, sha256):
            why = f"the server counted a release that is not in the ledger of {unit.unit}"
            yield Disagreement(Fault.OTHER_BYTES, f"{why}: in round {step + 1} the unit charged another")
            return


def uncounted(server: LedgerFacts, unit: LedgerFacts, plan: Plan) -> list[ReleaseFact]:
    """What the unit charged and the server's ledger does not have: it was lost or came too late. No fault."""
    steps = {step for step, _, _ in _counted(server, unit.unit, plan)}
    return [one for one in unit.releases if one.plan_sha256 == plan.digest and one.step not in steps]


def of_counted_unit(signed: SignedSegmentation, unit: LedgerFacts) -> Iterator[Disagreement]:
    """What a segmentation says of a unit that it counts, against the unit's ledger."""
    said = signed.segmentation
    if unit.unit not in said.units:
        return
    sources = {one.noise_source for one in unit.releases if one.plan_sha256 == said.plan_sha256}
    if not sources:
        why = f"the segmentation counts {unit.unit}, whose ledger holds no release of its plan"
        yield Disagreement(Fault.UNCHARGED, why)
    if said.noise == SystemNoise.label and sources - {SystemNoise.label}:
        why = f"the segmentation says that its noise was real, the ledger of {unit.unit} that it was simulated"
        yield Disagreement(Fault.NOISE, why)


def of_segmentation(signed: SignedSegmentation, server: LedgerFacts) -> Iterator[Disagreement]:
    """A segmentation file against what the server's ledger gives."""
    published = server.published.get(signed.segmentation.plan_sha256)
    if signed.public_key not in server.keys:
        yield Disagreement(Fault.PUBLICATION, "it is signed with another key than the server's ledger")
    elif published is None:
        yield Disagreement(Fault.UNPUBLISHED, "the server's ledger holds no segmentation of its plan")
    elif published != signed:
        yield Disagreement(Fault.SEGMENTS, "it is not the segmentation that the server's ledger gives")


def of_terms(signed: SignedSegmentation, plan: Plan) -> Iterator[Disagreement]:
    """What a segmentation says of its run, against the plan: all that can be compared without the server's ledger."""
    said = signed.segmentation
    stated = (said.name, said.trust, said.epsilon, said.delta, said.rho, said.rounds)
    rho = sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer
    budget = (fraction_text(plan.budget.epsilon), fraction_text(plan.budget.delta), fraction_text(rho))
    if stated != (plan.name, plan.trust.value, *budget, plan.rounds):
        yield Disagreement(Fault.TERMS, "it states another name, trust model, budget or number of rounds than its plan")
    if not set(said.units) <= {unit.name for unit in plan.units} or len(said.units) < plan.quorum:
        yield Disagreement(Fault.TERMS, "it counts units that its plan does not name, or fewer than the quorum")


def of_policy(document: bytes, unit: LedgerFacts) -> Iterator[Disagreement]:
    """A policy file against the policy in force at the end of its unit's ledger."""
    logged = [str(entry.body["policy_sha256"]) for entry in unit.raw.entries if entry.kind == "policy"]
    try:
        digest = load_policy(document).digest
    except FedsegError as error:
        yield Disagreement(Fault.UNLOGGED, f"it is not a policy: {error.why}")
        return
    if logged and digest != logged[-1]:
        old = "was in force once, and is no longer" if digest in logged else "is not logged"
        yield Disagreement(Fault.UNLOGGED, f"the policy {old} in the ledger of {unit.unit}")


def plans_in(ledger: LedgerFacts) -> set[str]:
    """Hashes of the plans that a ledger logs: those a server ran, or a unit approved."""
    kind = "plan" if ledger.role == "server" else "approval"
    return {str(entry.body["plan_sha256"]) for entry in ledger.raw.entries if entry.kind == kind}


def _counted(server: LedgerFacts, unit: str, plan: Plan) -> Iterator[tuple[int, str, str]]:
    """Step, release id and hash of the bytes of each contribution of a unit to a plan."""
    for entry in server.raw.entries:
        if entry.kind == "contribution" and (entry.body["plan_sha256"], entry.body["unit"]) == (plan.digest, unit):
            payload = entry.payload
            yield int(str(entry.body["step"])), str(entry.body["release_id"]), payload.sha256 if payload else ""
