"""The facts of a unit's home: the one place where paperwork meets a unit. Settings, policy and ledger; never a row."""

from datetime import datetime

from fedseg.errors import NotApprovedError
from fedseg.governance.facts import UnitFacts
from fedseg.node.home import NodeHome
from fedseg.plan import Plan
from fedseg.policy.document import load_policy
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.state import AccountState


def facts_of(home: NodeHome, plan: Plan | None = None, *, now: datetime) -> UnitFacts:
    """What the paperwork of this unit is filled in from.

    Args:
        home: The unit's.
        plan: A plan that customers are to be told about.
        now: When.

    Raises:
        NotApprovedError: If the unit has not approved the plan, or not any more.
        PolicyError, PolicyDocumentError: If there is no policy that can be read.
    """
    policy, settings = load_policy(home.policy_document()), home.settings
    with home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
    if plan is not None:
        _require_approved(home, plan, state, day_of(now))
    return UnitFacts(
        unit=settings.unit,
        policy=policy,
        source_file=settings.source.path,
        source_format=settings.source.format,
        subject_column=settings.source.subject,
        source_columns=settings.source.columns,
        register_in_database=settings.register_ is not None,
        rho_spent=state.rho_spent,
        noise=state.noise_sources,
        policy_in_ledger=state.caps is not None and state.caps.policy_sha256 == policy.digest,
        plan=plan,
    )


def _require_approved(home: NodeHome, plan: Plan, state: AccountState, day: str) -> None:
    found = state.reservations.get(plan.digest)
    if found is None or found.ending is not None or found.is_expired(day):
        raise NotApprovedError(
            f"{home.settings.unit} has not approved the plan {plan.name}",
            why="customers are told of plans that their unit has agreed to",
            fix=f"fedseg approve PLAN.toml --node {home.path}",
        )
