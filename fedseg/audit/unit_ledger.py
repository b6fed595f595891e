"""Recomputing a unit's ledger: every policy, approval and release follows from the entries before it."""

from fractions import Fraction

from fedseg.audit.entries import checking, failed, read_unit_body
from fedseg.audit.facts import ReleaseFact
from fedseg.audit.faults import Fault
from fedseg.errors import BudgetError, NotApprovedError, StepAnsweredError
from fedseg.ledger.entries import Entry
from fedseg.ledger.reading import RawLedger
from fedseg.plan import Plan, caps_of, parse_plan, policy_outcomes
from fedseg.policy.document import Policy, load_policy
from fedseg.privacy.account import expiry, next_day, require_decided, require_requester, require_signed
from fedseg.privacy.entries import (
    ApprovalBody,
    ApprovalRules,
    ClosingBody,
    DecisionBody,
    Ending,
    KeyChangeBody,
    PolicyBody,
    RefusalBody,
    ReleaseBody,
    RightsBatchBody,
    StartBody,
    UnitBody,
    Verdict,
)
from fedseg.privacy.mechanism import recompute
from fedseg.privacy.release import release_id
from fedseg.privacy.state import NO_OFFICERS, AccountState, apply_body
from fedseg.server.contribution import parse_contribution


class UnitReplay:
    """A unit's ledger, replayed and checked entry by entry."""

    def __init__(self, raw: RawLedger, unit: str) -> None:
        self.raw = raw
        self.unit = unit
        self.state = AccountState()
        self.releases: list[ReleaseFact] = []
        self._keys = raw.keys()
        self._policy: Policy | None = None
        self._policy_sha256 = ""
        self._rules = NO_OFFICERS
        self._plans: dict[str, Plan] = {}
        self._allowed: set[tuple[str, str]] = set()
        """Plans found to be allowed, with the policy that allows each."""

    def run(self) -> AccountState:
        """Check every entry in order; the account at the end.

        Raises:
            VerificationError: At the first entry that does not follow.
        """
        for entry in self.raw.entries[1:]:
            with checking(entry, Fault.FIELDS):
                body = read_unit_body(entry)
                if body.day is not None and body.day < self.state.newest_day:
                    raise failed(
                        Fault.CLOCK, f"entry {entry.seq} is of {body.day}, after one of {self.state.newest_day}"
                    )
                self._check(entry, body)
                self.state = apply_body(self.state, body)
        return self.state

    def _check(self, entry: Entry, body: UnitBody) -> None:
        match body:
            case PolicyBody():
                self._check_policy(entry, body)
            case DecisionBody():
                self._check_decision(entry, body)
            case ApprovalBody():
                self._check_approval(entry, body)
            case RefusalBody():
                self._check_refusal(entry, body)
            case ClosingBody():
                self._check_closing(entry, body)
            case ReleaseBody():
                self.releases.append(self._check_release(entry, body))
            case RightsBatchBody():
                self._check_rights_batch(entry, body)
            case StartBody():
                pass
            case KeyChangeBody():
                self._check_key_change(entry, body)

    def _check_policy(self, entry: Entry, body: PolicyBody) -> None:
        with checking(entry, Fault.POLICY):
            policy = load_policy(self.raw.payloads[body.vouched.id])
        caps = caps_of(policy)
        stated = (
            body.policy_id,
            body.policy_sha256,
            body.rho_cap,
            body.delta,
            body.purpose_rho_caps,
            body.approvals,
            body.witnesses,
            body.vouched.id,
        )
        said = (
            policy.id,
            caps.policy_sha256,
            caps.rho_cap,
            caps.delta,
            caps.purpose_rho_caps,
            caps.approvals,
            caps.witnesses,
            f"policy:{caps.policy_sha256}:{entry.seq}",
        )
        if stated != said:
            raise failed(Fault.POLICY, f"entry {entry.seq} does not say what the logged policy says")
        with checking(entry, Fault.UNSIGNED):
            require_signed(self.state.caps, caps, body.signatures)
        self._policy, self._policy_sha256, self._rules = policy, caps.policy_sha256, caps.approvals

    def _check_decision(self, entry: Entry, body: DecisionBody) -> None:
        with checking(entry, Fault.DECIDED):
            require_decided(self.state, body)
        if body.unit != self.unit:
            raise failed(Fault.DECIDED, f"decision {entry.seq} is another unit's")

    def _check_approval(self, entry: Entry, body: ApprovalBody) -> None:
        with checking(entry, Fault.APPROVAL):
            plan = parse_plan(self.raw.payloads[body.vouched.id])
        stated = (body.vouched.id, body.plan_sha256, body.purpose)
        if stated != (f"plan:{plan.digest}", plan.digest, plan.purpose):
            raise failed(Fault.APPROVAL, f"approval {entry.seq} does not say what the approved plan says")
        index = plan.unit_index(self.unit)
        if index is None or plan.units[index].public_key != self._keys.at_entry(entry.seq).to_text():
            why = f"the plan of approval {entry.seq} names another key for {self.unit}, or does not name it"
            raise failed(Fault.PLAN_KEY, why)
        if tuple(body.step_rhos) != plan.step_rhos:
            raise failed(Fault.PRICE, f"approval {entry.seq} reserved another price than the plan's")
        if body.max_units_attested != plan.max_units_to_attest:
            why = f"approval {entry.seq} attests something else about shared customers than its plan needs"
            raise failed(Fault.ATTESTED, why)
        self._require_allowed(entry, plan, body.policy_sha256)
        rho = sum(plan.step_rhos, Fraction(0))
        with checking(entry, Fault.REQUESTER):
            require_requester(plan.digest, body.requester, body.requester_signature)
        try:
            self.state.require_room(plan.purpose, rho, body.requester, step_rhos=plan.step_rhos)
        except BudgetError as error:
            raise failed(Fault.CAP, f"approval {entry.seq} reserved more than the cap") from error
        if body.rho_reserved_after != self.state.rho_reserved + rho:
            raise failed(Fault.TOTAL, f"approval {entry.seq} states another total than its ledger gives")
        self._require_decided(entry, body, self._rules)
        self._plans[plan.digest] = plan

    def _require_decided(self, entry: Entry, body: ApprovalBody, rules: ApprovalRules) -> None:
        """As many officers approve as the policy requires, or its terms for the requester cover the plan."""
        approving = self.state.approving(body.plan_sha256, body.policy_sha256, body.source_sha256)
        if body.automatic:
            with checking(entry, Fault.DECIDED):
                self.state.require_automatic(body.requester, sum(body.step_rhos, Fraction(0)), body.approved_at)
            wanted: tuple[str, ...] = ()
        else:
            wanted = approving
            if len(approving) < rules.required:
                raise failed(
                    Fault.DECIDED, f"approval {entry.seq} lacks officers: {len(approving)} of {rules.required}"
                )
        if tuple(body.officers) != wanted:
            raise failed(Fault.DECIDED, f"approval {entry.seq} names other officers than those who have decided")
        if body.expires_on != expiry(rules, body.approved_at):
            raise failed(Fault.ENDED, f"approval {entry.seq} ends on another day than the policy says")

    def _check_refusal(self, entry: Entry, body: RefusalBody) -> None:
        if body.plan_sha256 in self.state.reservations:
            raise failed(Fault.ENDED, f"refusal {entry.seq} is of a plan that is approved")
        if self.state.caps is None or self.state.caps.policy_sha256 != body.policy_sha256:
            raise failed(Fault.NOT_IN_FORCE, f"refusal {entry.seq} names another policy than the one in force")
        self._require_officer(entry, body.plan_sha256, Verdict.DENY, body.refused_on)

    def _check_closing(self, entry: Entry, body: ClosingBody) -> None:
        found = self.state.reservations.get(body.plan_sha256)
        if found is None or found.ending is not None:
            raise failed(Fault.ENDED, f"closing {entry.seq} ends what is not open")
        if body.ending is Ending.EXPIRED:
            if not found.is_expired(body.closed_on):
                raise failed(Fault.ENDED, f"closing {entry.seq} calls expired what was not")
        else:
            verdict = Verdict.REVOKE if body.ending is Ending.REVOKED else Verdict.CANCEL
            self._require_officer(entry, body.plan_sha256, verdict, body.closed_on)
        returned = found.rho - found.rho_spent
        if (body.rho_returned, body.rho_reserved_after) != (returned, self.state.rho_reserved - returned):
            raise failed(Fault.TOTAL, f"closing {entry.seq} returns another price than was left")

    def _require_officer(self, entry: Entry, plan_sha256: str, verdict: Verdict, day: str) -> None:
        """An officer has said so on that day, if the policy in force asks for officers."""
        if self.state.caps is None or not self.state.caps.approvals.required:
            return
        said = self.state.decisions.get(plan_sha256, ())
        if not any((one.verdict, one.made_on) == (verdict, day) for one in said):
            raise failed(Fault.DECIDED, f"entry {entry.seq} ({entry.kind}) has no officer's decision before it")

    def _check_rights_batch(self, entry: Entry, body: RightsBatchBody) -> None:
        before = self.state.rights_period
        if before is not None and body.period != next_day(before):
            raise failed(Fault.RIGHTS, f"entry {entry.seq} is of {body.period}, the one before of {before}")

    def _check_key_change(self, entry: Entry, body: KeyChangeBody) -> None:
        # That the two keys have signed it, `check_log` has found.
        with checking(entry, Fault.PLAN_KEY):
            self.state.require_no_plan_open(body.changed_on)

    def _require_allowed(self, entry: Entry, plan: Plan, policy_sha256: str) -> None:
        """The policy in force, which is the one named and allows the plan."""
        if self._policy is None or self._policy_sha256 != policy_sha256:
            raise failed(Fault.NOT_IN_FORCE, f"entry {entry.seq} names another policy than the one in force")
        if (plan.digest, policy_sha256) not in self._allowed:
            refused = [rule.rule for rule in policy_outcomes(plan, self._policy) if not rule.allowed]
            if refused:
                raise failed(Fault.REFUSED, f"entry {entry.seq} goes against the policy in force: {refused[0]}")
            self._allowed.add((plan.digest, policy_sha256))

    def _check_release(self, entry: Entry, body: ReleaseBody) -> ReleaseFact:
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
        if (body.charge.rho, body.charge.delta) != (charge.rho, charge.delta):
            raise failed(Fault.CHARGE, f"release {entry.seq} states another charge than its mechanism gives")
        try:
            self.state.require_step(plan.digest, body.step, body.release_id, charge, body.released_on)
        except NotApprovedError as error:
            raise failed(Fault.ENDED, f"release {entry.seq} does not check out: {error}") from error
        except StepAnsweredError as error:
            raise failed(Fault.TWICE, f"release {entry.seq} does not check out: {error}") from error
        except BudgetError as error:
            raise failed(Fault.CAP, f"entry {entry.seq} (release) does not check out: {error}") from error
        if body.rho_spent_after != self.state.rho_spent + charge.rho:
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
            output_sha256=body.vouched.sha256,
        )

    def _check_output(self, entry: Entry, body: ReleaseBody, plan: Plan) -> None:
        """The signed bytes say what the entry says."""
        with checking(entry, Fault.RELEASE):
            sent = parse_contribution(self.raw.payloads[body.vouched.id], plan)
        wanted = release_id(plan.digest, self.unit, body.step, body.request_sha256)
        stated = (body.unit, body.step, body.release_id, body.request_sha256, body.noise_source, body.vouched.id)
        if stated != (sent.unit, sent.step, wanted, sent.request_sha256, sent.noise_source, f"release:{wanted}"):
            raise failed(Fault.SENT, f"release {entry.seq} does not say what its bytes say")
        if (sent.unit, sent.release_id) != (self.unit, wanted):
            raise failed(Fault.SENT, f"the bytes of release {entry.seq} are of another release")
