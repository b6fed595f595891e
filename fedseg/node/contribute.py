"""The unit's whole job: from a request to a release."""

from dataclasses import replace
from datetime import datetime

import fedseg
from fedseg.clustering.encode import encode
from fedseg.clustering.lattice import Lattice, StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.errors import NotApprovedError, PlanMismatchError, PolicyError, RequestError
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.node.sources.public_tables import require_named
from fedseg.node.witnessing import NodeProcess, cosigned_now
from fedseg.plan import Plan, parse_plan, policy_outcomes
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import ConsentedTable, Decisions, admit
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.noise import Noise, NoiseSource
from fedseg.privacy.release import Release, ReleaseTicket, recall, release
from fedseg.privacy.sensitive import Sensitive
from fedseg.privacy.state import AccountState
from fedseg.privacy.witnessed import require_witnessed


def contribute(
    home: NodeHome,
    plan_sha256: str,
    request: RoundRequest,
    request_sha256: str,
    *,
    now: datetime,
    source: NoiseSource,
    process: NodeProcess | None = None,
) -> Release:
    """Answer one request of an approved plan: recall what was sent before, or release once.

    Everything that decides whether there is a reply is checked before a row is read, and depends on no row. Sigma,
    clip norm, lattice and price come from the approved plan in the unit's own ledger, never from the request.

    Args:
        home: The unit's.
        plan_sha256: The approved plan.
        request: What is asked.
        request_sha256: Its hash.
        now: The time.
        source: Of the noise.
        process: This process: witnesses must have cosigned the ledger since it began. A new one if it has just begun.

    Raises:
        NotApprovedError, StepAnsweredError, RequestError, BudgetError, PolicyError, ClockError: Refused before any row
            was read.
        NotWitnessedError, RolledBackError: As these.
        MissingColumnError, DataError, StorageError: The source or the disk is unavailable, whoever is in it.
    """
    with home.ledger() as ledger:
        account = PrivacyAccount(ledger)
        plan = approved_plan(account, plan_sha256)
        terms = _terms(plan, request)
        policy = load_policy(home.policy_document())
        ticket = _ticket(home, plan, terms, request_sha256, policy=policy, now=now)
        known = recall(account, ticket.release_id)
        if known is not None:
            return known
        state = account.state()
        _require_as_approved(home, state, plan, policy)
        state.require_day(ticket.day)
        charge = terms.mechanism.charge(terms.lattice.l2_sensitivity_squared)
        state.require_step(plan_sha256, request.step, ticket.release_id, charge, ticket.day)
        history, _ = ledger.signed()
        cosigned = cosigned_now(home, history, NodeProcess() if process is None else process)
        rules = None if state.caps is None else state.caps.witnesses
        require_witnessed(rules, history, plan_sha256, cosigned)
        noise = Noise.draw(terms.mechanism, terms.length, source)
        with home.counting():
            consented, decisions, ticket = _pass_gate(home, plan, policy, ticket, now)
            if home.settings.source.format == "spark":
                statistic = _sum_in_spark(home, plan, decisions, request, terms.lattice)
            else:
                statistic = summarize(encode(consented, plan.encoders, home.path), request, terms.lattice)
            return release(statistic, noise, account, ticket, home.key, cosigned=cosigned)


def reply_slot_seconds(home: NodeHome, plan_sha256: str) -> int:
    """Length of the approved plan's reply slots; 0 = at once.

    Raises:
        NotApprovedError: If the unit has not approved it.
    """
    with home.ledger() as ledger:
        return approved_plan(PrivacyAccount(ledger), plan_sha256).reply_slot_seconds


def approved_plan(account: PrivacyAccount, plan_sha256: str) -> Plan:
    """The plan of this hash as the unit approved it.

    Raises:
        NotApprovedError: If the unit has not approved it, or has revoked its approval.
        PlanMismatchError: If this version reads the approved bytes as another plan.
    """
    plan = parse_plan(account.plan_document(plan_sha256))
    if plan.digest != plan_sha256:
        raise PlanMismatchError(
            "the approved plan reads differently in this version",
            why="its canonical form has changed since it was approved",
            fix="finish the plan with the version it was approved with",
        )
    return plan


def _terms(plan: Plan, request: RoundRequest) -> StepTerms:
    """The approved terms of the request's step.

    Raises:
        RequestError: If the plan has no such step, or the request has another shape than the plan's.
    """
    if request.step >= plan.rounds or request.centers.shape != (plan.terms[request.step].cells, plan.dimensions):
        raise RequestError(
            "the request does not fit the approved plan",
            why=f"step {request.step} with {request.cells} cells is not in it",
            fix="ask with the plan the unit approved",
        )
    return plan.terms[request.step]


def _ticket(
    home: NodeHome, plan: Plan, terms: StepTerms, request_sha256: str, *, policy: Policy, now: datetime
) -> ReleaseTicket:
    unit = home.settings.unit
    index = plan.unit_index(unit)
    if index is None:
        raise NotApprovedError(
            f"the plan does not name unit {unit!r}",
            why="the unit's name has changed since approval",
            fix="restore the name in node.toml",
        )
    return ReleaseTicket(
        plan_sha256=plan.digest,
        unit=unit,
        unit_index=index,
        step=terms.step,
        request_sha256=request_sha256,
        cells=terms.cells,
        width=terms.width,
        lattice=terms.lattice.facts,
        policy_sha256=policy.digest,
        gate_commitment="",
        software=f"fedseg {fedseg.__version__}",
        day=day_of(now),
    )


def _require_as_approved(home: NodeHome, state: AccountState, plan: Plan, policy: Policy) -> None:
    """Refuse to run on another policy or source than was approved and logged; depends on nobody's row.

    Raises:
        PolicyError: If the policy file is not the policy in the ledger, or no longer allows the plan.
        PlanMismatchError: If file, identifier or columns in node.toml were changed.
    """
    if state.caps is None or state.caps.policy_sha256 != policy.digest:
        raise PolicyError(
            "the policy file is not the policy in the ledger",
            why="it was changed after the plan was approved",
            fix="restore it, or approve the plan anew under the new policy",
        )
    refused = [rule for rule in policy_outcomes(plan, policy) if not rule.allowed]
    if refused:
        raise PolicyError(
            f"the policy in force says no: {refused[0].rule}",
            why=refused[0].reason,
            fix="change the policy, or ask for a new plan",
        )
    state.require_same_source(plan.digest, home.source_sha256)
    require_named(home.settings.source.lookups, plan)


def _pass_gate(
    home: NodeHome, plan: Plan, policy: Policy, ticket: ReleaseTicket, now: datetime
) -> tuple[ConsentedTable, Decisions, ReleaseTicket]:
    """Consent as of now, at every round: the rows that may be counted, and a salted commitment to the decisions."""
    with home.register() as register:
        decisions = decide_now(home, register, policy, plan.purpose, now)
        commitment = decisions.commitment(register.gate_salt(ticket.release_id), policy.digest)
    table = open_source(home, [feature.column for feature in plan.encoders])
    return admit(table, decisions, policy, plan.purpose), decisions, replace(ticket, gate_commitment=commitment)


def _sum_in_spark(
    home: NodeHome, plan: Plan, decisions: Decisions, request: RoundRequest, lattice: Lattice
) -> Sensitive:
    """The same integers, added up where the customers are: the gate and the encoder go there."""
    from fedseg.node.sources.spark_sums import sum_in_spark  # noqa: PLC0415 (an extra)

    return sum_in_spark(home, plan.encoders, decisions, request, lattice)
