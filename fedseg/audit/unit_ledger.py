"""Recomputing a unit's ledger: every policy, approval and release follows from the entries before it."""

from fractions import Fraction

from fedseg.audit.entries import ApprovalBody, PolicyBody, ReleaseBody, failed, read_body
from fedseg.audit.facts import ReleaseFact
from fedseg.errors import BudgetError, FedsegError, VerificationError
from fedseg.ledger.entries import Entry
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
            try:
                self._check(entry)
                self.state = apply_entry(self.state, entry)
            except VerificationError:
                raise
            except (FedsegError, KeyError, ValueError, TypeError) as error:
                raise failed(f"entry {entry.seq} ({entry.kind}) does not check out: {error}") from error
        return self.state

    def _check(self, entry: Entry) -> None:
        if entry.kind == "policy":
            self._check_policy(entry)
        elif entry.kind == "approval":
            self._check_approval(entry)
        elif entry.kind == "release":
            self.releases.append(self._check_release(entry))

    def _check_policy(self, entry: Entry) -> None:
        body = read_body(entry, PolicyBody)
        policy = load_policy(self.raw.payloads[body.payload.id])
        caps = caps_of(policy)
        limits = {name: fraction_text(rho) for name, rho in caps.purpose_rho_caps.items()}
        stated = (body.policy_id, body.policy_sha256, body.rho_cap, body.delta, body.purpose_rho_caps)
        said = (policy.id, caps.policy_sha256, fraction_text(caps.rho_cap), fraction_text(caps.delta), limits)
        if stated != said or body.payload.id != f"policy:{caps.policy_sha256}:{entry.seq}":
            raise failed(f"entry {entry.seq} does not say what the logged policy says")
        self._policy = policy

    def _check_approval(self, entry: Entry) -> None:
        body = read_body(entry, ApprovalBody)
        plan = parse_plan(self.raw.payloads[body.payload.id])
        if body.payload.id != f"plan:{plan.digest}" or body.plan_sha256 != plan.digest or body.purpose != plan.purpose:
            raise failed(f"approval {entry.seq} does not say what the approved plan says")
        index = plan.unit_index(self.unit)
        if index is None or plan.units[index].public_key != self.raw.public_key.to_text():
            raise failed(f"the plan of approval {entry.seq} names another key for {self.unit}, or does not name it")
        if body.step_rhos != [fraction_text(rho) for rho in plan.step_rhos]:
            raise failed(f"approval {entry.seq} reserved another price than the plan's")
        if body.max_units_attested != plan.max_units_to_attest:
            raise failed(f"approval {entry.seq} attests something else about shared customers than its plan needs")
        self._require_allowed(entry, plan, body.policy_sha256)
        rho = sum(plan.step_rhos, Fraction(0))
        try:
            self.state.require_room(plan.purpose, rho)
        except BudgetError as error:
            raise failed(f"approval {entry.seq} reserved more than the cap") from error
        if body.rho_reserved_after != fraction_text(self.state.rho_reserved + rho):
            raise failed(f"approval {entry.seq} states another total than its ledger gives")
        self._plans[plan.digest] = plan

    def _require_allowed(self, entry: Entry, plan: Plan, policy_sha256: str) -> None:
        """The policy in force is the one named, and allows the plan."""
        if self._policy is None or self._policy.digest != policy_sha256:
            raise failed(f"entry {entry.seq} names another policy than the one in force")
        refused = [rule.rule for rule in policy_outcomes(plan, self._policy) if not rule.allowed]
        if refused:
            raise failed(f"entry {entry.seq} goes against the policy in force: {refused[0]}")

    def _check_release(self, entry: Entry) -> ReleaseFact:
        body = read_body(entry, ReleaseBody)
        plan = self._plans[body.plan_sha256]
        self._require_allowed(entry, plan, body.policy_sha256)
        if body.step >= plan.rounds:
            raise failed(f"release {entry.seq} is of a step that is not in its plan")
        terms = plan.terms[body.step]
        lattice = terms.lattice
        mechanism = {"sigma": terms.mechanism.sigma, "l2_sensitivity_squared": lattice.l2_sensitivity_squared}
        if (body.cells, body.width, body.lattice, body.mechanism) != (
            terms.cells,
            terms.width,
            lattice.facts,
            mechanism,
        ):
            raise failed(f"release {entry.seq} used another mechanism than the approved plan's")
        charge = recompute(body.charge.formula, body.mechanism)
        if (body.charge.rho, body.charge.delta) != (fraction_text(charge.rho), fraction_text(charge.delta)):
            raise failed(f"release {entry.seq} states another charge than its mechanism gives")
        self.state.require_step(plan.digest, body.step, body.release_id, charge)
        if body.rho_spent_after != fraction_text(self.state.rho_spent + charge.rho):
            raise failed(f"release {entry.seq} states another total than its ledger gives")
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
        sent = parse_contribution(self.raw.payloads[body.payload.id], plan)
        wanted = release_id(plan.digest, self.unit, body.step, body.request_sha256)
        stated = (body.unit, body.step, body.release_id, body.request_sha256, body.noise_source, body.payload.id)
        if stated != (sent.unit, sent.step, wanted, sent.request_sha256, sent.noise_source, f"release:{wanted}"):
            raise failed(f"release {entry.seq} does not say what its bytes say")
        if (sent.unit, sent.release_id) != (self.unit, wanted):
            raise failed(f"the bytes of release {entry.seq} are of another release")
