"""What marketers are told they may do is what every unit's policy allows, and what any policy forbids is forbidden."""

from pathlib import Path

import pytest

from fedseg.policy.document import Policy, load_policy
from fedseg.policy.purposes import Purpose
from fedseg.policy.uses import Use
from fedseg.segments.allowed import allowed

POLICIES = Path(__file__).parents[2] / "policies"


def policy(name: str) -> Policy:
    return load_policy((POLICIES / f"{name}.yaml").read_bytes())


def test_without_a_policy_nothing_is_said_to_be_allowed() -> None:
    assert allowed([]) is None


@pytest.mark.parametrize("name", sorted(path.stem for path in POLICIES.glob("*.yaml")))
def test_each_purpose_stands_on_exactly_one_side(name: str) -> None:
    one = policy(name)
    found = allowed([one, one])
    assert found is not None
    assert len(found.may) == len(one.purposes)
    denied = {purpose for purpose in Purpose if purpose not in one.purposes}
    uses = [use for use in one.forbidden_uses or () if not denied.intersection(use.excludes)]
    assert len(found.may_not) == len(denied) + len(uses)
    assert found.policies == (one,)
    assert found.min_cohort == min(rule.min_cohort for rule in one.purposes.values())


def test_allowed_is_what_all_allow_and_forbidden_what_any_forbids() -> None:
    marketing, statistics = policy("gdpr-marketing"), policy("minimal")
    assert set(marketing.purposes) > set(statistics.purposes)
    both, alone = allowed([marketing, statistics]), allowed([marketing])
    assert both is not None
    assert alone is not None
    assert [rule.says for rule in both.may] == [rule.says for rule in alone.may][:1]
    assert {rule.says for rule in alone.may_not} <= {rule.says for rule in both.may_not}
    (addressing,) = [rule for rule in both.may_not if rule.says == "Address customers because of their segment."]
    assert addressing.by == statistics.id


def test_a_forbidden_use_is_told_in_the_words_of_the_vocabulary() -> None:
    forbidding = next(
        one for one in (policy(path.stem) for path in sorted(POLICIES.glob("*.yaml"))) if one.forbidden_uses
    )
    found = allowed([forbidding])
    assert found is not None
    told = {rule.says.lower().rstrip(".") for rule in found.may_not}
    for use in forbidding.forbidden_uses or ():
        assert use.says.lower() in told or use.excludes
    assert Use.DIRECT_MARKETING.says.lower() not in told
