"""What a policy says about a plan, rule by rule. Pure; reads nobody's data and no table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fedseg.policy.document import Policy
from fedseg.policy.purpose_rule import PurposeRule


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What one rule of the policy says about a plan."""

    rule: str
    """Where the rule stands in the policy, as a path of keys."""
    allowed: bool
    """Whether the plan keeps it."""
    reason: str
    """What the plan asks and what the policy says."""


def check_policy(
    policy: Policy,
    *,
    purpose: str,
    columns: Sequence[str],
    trust: str,
    rho: Fraction,
    delta: Fraction,
    witnessed: bool = False,
) -> list[RuleOutcome]:
    """Would the policy allow a plan that asks for this? One outcome per rule; the plan is allowed if all are.

    Depends on the policy and the plan alone, on nobody's data: minimum cohort and consent are checked against the
    unit's own rows before approval.

    Args:
        policy: The unit's policy.
        purpose: What the plan counts customers for.
        columns: Every column the plan reads.
        trust: The plan's trust model.
        rho: What the whole plan costs a customer, in zCDP.
        delta: The plan's delta.
        witnessed: Whether ledgers are cosigned between the plan's rounds.
    """
    models = policy.trust_models
    outcomes = [*_check_purpose(policy, purpose, columns, rho)]
    outcomes.append(RuleOutcome("trust_models", trust in models, f"plan {trust}, policy {', '.join(models)}"))
    outcomes.append(_within("budget.rho_cap", rho, policy.budget.rho_cap))
    outcomes.append(_within("budget.delta", delta, policy.budget.delta))
    if policy.witnesses is not None and policy.witnesses.quorum:
        reason = (
            f"plan {'witnessed' if witnessed else 'not witnessed'}, policy wants {policy.witnesses.quorum} witnesses"
        )
        outcomes.append(RuleOutcome("witnesses.quorum", witnessed, reason))
    return outcomes


def _check_purpose(policy: Policy, purpose: str, columns: Sequence[str], rho: Fraction) -> Iterator[RuleOutcome]:
    named = purpose in policy.purposes
    yield RuleOutcome("purposes", named, f"{purpose} is {'named' if named else 'not named, so denied'}")
    where = f"purposes.{purpose}"
    if not named:
        yield RuleOutcome(f"{where}.columns.allow", allowed=False, reason="no column is allowed for this purpose")
        yield RuleOutcome(f"{where}.rho_cap", allowed=False, reason="nothing may be spent on this purpose")
        return
    rule = policy.rule(purpose)
    refused = refused_columns(rule, columns)
    reason = f"not allowed: {', '.join(refused)}" if refused else "every column is allowed"
    yield RuleOutcome(f"{where}.columns.allow", not refused, reason)
    if rule.special_category is not None:
        yield _check_special(f"{where}.special_category", rule, columns)
    yield _within(f"{where}.rho_cap", rho, policy.rho_cap(purpose))


def _check_special(where: str, rule: PurposeRule, columns: Sequence[str]) -> RuleOutcome:
    asked = [column for column in columns if column in rule.special_columns]
    if not asked:
        return RuleOutcome(where, allowed=True, reason="no column of a special category is asked for")
    basis = "no basis is declared" if rule.explicit_basis is None else f"on the basis {rule.explicit_basis}"
    return RuleOutcome(where, rule.explicit_basis is not None, f"{', '.join(asked)}: {basis}")


def _within(rule: str, asked: Fraction, cap: Fraction) -> RuleOutcome:
    return RuleOutcome(
        rule, allowed=0 <= asked <= cap, reason=f"plan {_decimal(asked)}, policy at most {_decimal(cap)}"
    )


def refused_columns(rule: PurposeRule, columns: Sequence[str]) -> list[str]:
    """The columns that the policy does not allow for the purpose."""
    return [column for column in columns if column not in rule.readable]


def _decimal(value: Fraction) -> str:
    """For people: exact where that is short, else the nearest four digits, marked as such."""
    exact = f"{float(value):.6g}"
    return exact if Fraction(exact) == value else f"about {float(value):.4g}"
