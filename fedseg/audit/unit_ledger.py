"""Recomputing a unit's ledger: every policy, approval and release follows from the entries before it."""

from fractions import Fraction

from fedseg.audit.entries import ApprovalBody, PolicyBody, ReleaseBody, checking, failed, read_body
from fedseg.audit.facts import ReleaseFact
from fedseg.audit.faults import Fault
from fedseg.errors import BudgetError, StepAnsweredError
from fedseg.ledger.entries import GENESIS, Entry
from fedseg.ledger.reading import RawLedger
from fedseg.plan import Plan, caps_of, parse_plan, policy_outcomes
from fedseg.policy.document import Policy, load_policy
from fedseg.privacy.account import AccountState, apply_entry
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.mechanism import recompute
from fedseg.privacy.release import release_id
from fedseg.server.contribution import parse_contribution


class UnitReplay:
    """A unit's ledger, replayed and checked entry by entry."""

    def __init__(self, raw: RawLedger, unit: str) -> None:
        self.raw = raw
        self.unit = unit
        self.state = AccountState()
        self.releases: list[ReleaseFact] = []
        self._policy: Policy | None = None
        self._plans: dict[str, Plan] = {}

    def run(self) -> AccountState:
        """Check every entry in order; the account at the end.

        Raises:
            VerificationError: At the first entry that does not follow.
        """
        for entry in self.raw.entries:
            with checking(entry, Fault.FIELDS):
                self._check(entry)
                self.state = apply_entry(self.state, entry)
        return self.state

    def _check(self, entry: Entry) -> None:
        if entry.kind == "policy":
            self._check_policy(entry)
        elif entry.kind == "approval":
            self._check_approval(entry)
        elif entry.kind == "release":
            self.releases.append(self._check_release(entry))
        elif entry.kind != GENESIS:
            raise failed(Fault.KIND, f"entry {entry.seq} is of a kind no unit writes: {entry.kind!r}")

    def _check_policy(self, entry: Entry) -> None:
        body = read_body(entry, PolicyBody)
        with checking(entry, Fault.POLICY):
            policy = load_policy(self.raw.payloads[body.payload.id])
        caps = caps_of(policy)
        limits = {name: fraction_text(rho) for name, rho in caps.purpose_rho_caps.items()}
        stated = (body.policy_id, body.policy_sha256, body.rho_cap, body.delta, body.purpose_rho_caps)
        said = (policy.id, caps.policy_sha256, fraction_text(caps.rho_cap), fraction_text(caps.delta), limits)
        if stated != said or body.payload.id != f"policy:{caps.policy_sha256}:{entry.seq}":
            raise failed(Fault.POLICY, f"entry {entry.seq} does not say what the logged policy says")
        self._policy = policy

    def _check_approval(self, entry: Entry) -> None:
        body = read_body(entry, ApprovalBody)
        with checking(entry, Fault.APPROVAL):
            plan = parse_plan(self.raw.payloads[body.payload.id])
        if body.payload.id != f"plan:{plan.digest}" or body.plan_sha256 != plan.digest or body.purpose != plan.purpose:
            raise failed(Fault.APPROVAL, f"approval {entry.seq} does not say what the approved plan says")
        index = plan.unit_index(self.unit)
        if index is None or plan.units[index].public_key != self.raw.public_key.to_text():
            why = f"the plan of approval {entry.seq} names another key for {self.unit}, or does not name it"
            raise failed(Fault.PLAN_KEY, why)
        if body.step_rhos != [fraction_text(rho) for rho in plan.step_rhos]:
            raise failed(Fault.PRICE, f"approval {entry.seq} reserved another price than the plan's")
        if body.max_units_attested != plan.max_units_to_attest:
            why = f"approval {entry.seq} attests something else about shared customers than its plan needs"
            raise failed(Fault.ATTESTED, why)
        self._require_allowed(entry, plan, body.policy_sha256)
        rho = sum(plan.step_rhos, Fraction(0))
        try:
            self.state.require_room(plan.purpose, rho)
        except BudgetError as error:
            raise failed(Fault.CAP, f"approval {entry.seq} reserved more than the cap") from error
        if body.rho_reserved_after != fraction_text(self.state.rho_reserved + rho):
            raise failed(Fault.TOTAL, f"approval {entry.seq} states another total than its ledger gives")
        self._plans[plan.digest] = plan

    def _require_allowed(self, entry: Entry, plan: Plan, policy_sha256: str) -> None:
        """The policy in force is the one named, and allows the plan."""
        if self._policy is None or self._policy.digest != policy_sha256:
            raise failed(Fault.NOT_IN_FORCE, f"entry {entry.seq} names another policy than the one in force")
        refused = [rule.rule for rule in policy_outcomes(plan, self._policy) if not rule.allowed]
        if refused:
            raise failed(Fault.REFUSED, f"entry {entry.seq} goes against the policy in force: {refused[0]}")

    def _check_release(self, entry: Entry) -> ReleaseFact:
        body = read_body(entry, ReleaseBody)
        with checking(entry, Fault.UNRESERVED):
            plan = self._plans[body.plan_sha256]
        self._require_allowed(entry, plan, body.policy_sha256)
        if body.step >= plan.rounds:
            raise failed(Fault.UNRESERVED, f"release {entry.seq} is of a step that is not in its plan")
        terms = plan.terms[body.step]
        lattice = terms.lattice
        mechanism = {"sigma": terms.mechanism.sigma, "l2_sensitivity_squared": lattice.l2_sensitivity_squared}
        if (body.cells, body.width, body.lattice, body.mechanism) != (
            terms.cells,
            terms.width,
            lattice.facts,
            mechanism,
        ):
            raise failed(Fault.MECHANISM, f"release {entry.seq} used another mechanism than the approved plan's")
        with checking(entry, Fault.CHARGE):
            charge = recompute(body.charge.formula, body.mechanism)
        if (body.charge.rho, body.charge.delta) != (fraction_text(charge.rho), fraction_text(charge.delta)):
            raise failed(Fault.CHARGE, f"release {entry.seq} states another charge than its mechanism gives")
        try:
            self.state.require_step(plan.digest, body.step, body.release_id, charge)
        except StepAnsweredError as error:
            raise failed(Fault.TWICE, f"release {entry.seq} does not check out: {error}") from error
        except BudgetError as error:
            raise failed(Fault.CAP, f"entry {entry.seq} (release) does not check out: {error}") from error
        if body.rho_spent_after != fraction_text(self.state.rho_spent + charge.rho):
            raise failed(Fault.TOTAL, f"release {entry.seq} states another total than its ledger gives")
        self._check_output(entry, body, plan)
        return ReleaseFact(
            plan_sha256=plan.digest,
            step=body.step,
            release_id=body.release_id,
            integers=terms.length,
            sigma=terms.mechanism.sigma,
            l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
            rho=charge.rho,
            rho_spent_after=self.state.rho_spent + charge.rho,
            noise_source=body.noise_source,
            output_sha256=body.payload.sha256,
        )

    def _check_output(self, entry: Entry, body: ReleaseBody, plan: Plan) -> None:
        """The signed bytes say what the entry says."""
        with checking(entry, Fault.RELEASE):
            sent = parse_contribution(self.raw.payloads[body.payload.id], plan)
        wanted = release_id(plan.digest, self.unit, body.step, body.request_sha256)
        stated = (body.unit, body.step, body.release_id, body.request_sha256, body.noise_source, body.payload.id)
        if stated != (sent.unit, sent.step, wanted, sent.request_sha256, sent.noise_source, f"release:{wanted}"):
            raise failed(Fault.SENT, f"release {entry.seq} does not say what its bytes say")
        if (sent.unit, sent.release_id) != (self.unit, wanted):
            raise failed(Fault.SENT, f"the bytes of release {entry.seq} are of another release")
