"""The notice: plain words to customers, from the policy or from an approved plan, safe as Markdown and as HTML."""

import re
from dataclasses import replace

import pytest
import tomli_w
from markdown_it import MarkdownIt

from fedseg.governance.facts import UnitFacts
from fedseg.governance.notice import notice, to_html, to_markdown
from fedseg.governance.statements import TO_BE_FILLED, blanks
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from tests.governance.conftest import CONTROLLER, SHIPPED, FactsOf
from tests.governance.test_dpia import Tags
from tests.small_federation import plan_terms


def small_plan(**changes: object) -> Plan:
    units = [{"name": name, "public_key": SigningKey.generate().public.to_text()} for name in ("north", "south")]
    return parse_plan(tomli_w.dumps(plan_terms(units, **changes)).encode())


def told(facts: UnitFacts) -> str:
    return "\n".join(one.says for one in notice(facts))


@pytest.mark.parametrize("name", SHIPPED)
def test_customers_are_told_all_that_they_must_be(name: str, facts_of: FactsOf) -> None:
    assert list(dict.fromkeys(one.place for one in notice(facts_of(name)))) == [
        "Who we are",
        "What we do, and why",
        "What entitles us",
        "Which data we use",
        "What protects you",
        "Who receives results",
        "How long we keep data",
        "Your rights",
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("gdpr-marketing", "Example Retail GmbH", "Other Retail AG", "Responsible for your data: Other Retail AG"),
        ("gdpr-marketing", "recency_days", "how_recent", "how_recent"),
        ("gdpr-marketing", "raw_days: 395", "raw_days: 100", "Data about you: 100 days."),
        ("gdpr-marketing", 'rho_cap: "1/10"', 'rho_cap: "1/4"', "epsilon: ours is at most 3.55 (delta 1/1000000)"),
        ("gdpr-legitimate-interest", "price-discrimination", "social-scoring", "rating people by their conduct"),
        (
            "gdpr-marketing",
            "raw_days: 395",
            "raw_days: 395\n  lapsed_days: 90",
            "once your consent has ended: 90 days.",
        ),
        ("gdpr-legitimate-interest", "backup_days: 30", "backup_days: 31", "Backups: 31 days."),
        ("gdpr-legitimate-interest", "suppression_days: 3650", "suppression_days: 3651", "3,651 days."),
        ("ccpa", "campaign-service", "other-service", "Recipient: other-service, as processor."),
    ],
)
def test_a_changed_policy_changes_what_customers_are_told(
    name: str, old: str, new: str, said: str, facts_of: FactsOf
) -> None:
    assert said not in told(facts_of(name))
    assert said in told(facts_of(name, (old, new)))


def test_each_purpose_is_told_apart(facts_of: FactsOf) -> None:
    assert "does not put single persons into a group" in told(facts_of("minimal"))
    both = told(facts_of("gdpr-marketing"))
    assert "We find groups" in both
    assert "to address you" in both
    assert "does not put single persons into a group" not in both


def test_each_ground_brings_its_own_right(facts_of: FactsOf) -> None:
    assert "withdraw your consent" in told(facts_of("gdpr-marketing"))
    assert "which legitimate interests we pursue" in told(facts_of("gdpr-legitimate-interest"))
    assert "which legitimate interests we pursue" not in told(facts_of("gdpr-marketing"))
    assert "opt out of the sale" in told(facts_of("ccpa"))
    assert "opt out of the sale" not in told(facts_of("gdpr-marketing"))


def test_sensitive_data_are_named_where_they_are_used_and_only_there(facts_of: FactsOf) -> None:
    says = "sensitive, and used only if you have agreed to it expressly: "
    assert f"Besides, {says}prescriptions_per_year, chronic_condition." in told(facts_of("health-cross-industry"))
    assert "precise_location" not in told(facts_of("ccpa"))
    feature = {"name": "chronic_condition", "label": "ill", "lower": 0, "upper": 1, "missing": 0}
    about = facts_of("health-cross-industry", plan=small_plan(features=[feature]))
    assert f"Of these, {says}chronic_condition." in told(about)
    assert says not in told(facts_of("health-cross-industry", plan=small_plan()))


def test_a_plan_replaces_names_of_columns_by_its_words(facts_of: FactsOf) -> None:
    without, about = facts_of("minimal"), facts_of("minimal", plan=small_plan())
    assert "visits a year (visits); spend a year (spend)" in told(about)
    assert "We look for 3 groups" in told(about)
    assert "Units that take part: north, south." in told(about)
    assert blanks(notice(about)) == blanks(notice(without)) - 1


def test_a_plan_for_bounds_is_told_as_one(facts_of: FactsOf) -> None:
    plan = small_plan(k=1, algorithm={"name": "bounds", "seed": 1, "expected_customers": 200})
    assert "between which values" in told(facts_of("minimal", plan=plan))


def test_a_rehearsal_is_not_passed_off_as_private(facts_of: FactsOf) -> None:
    assert "NOT PRIVATE" in told(facts_of("minimal", noise=frozenset({"simulated"})))
    assert "NOT PRIVATE" not in told(facts_of("minimal"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_blank_can_be_found_in_both_forms(name: str, facts_of: FactsOf) -> None:
    statements = notice(facts_of(name))
    assert to_html(statements).decode().count(f"<mark>{TO_BE_FILLED}") == blanks(statements) > 0
    assert to_markdown(statements).decode().count(f"\n**{TO_BE_FILLED}") == blanks(statements)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_sentence_begins_with_words_of_ours(name: str, facts_of: FactsOf) -> None:
    statements = notice(facts_of(name, plan=small_plan()))
    assert not [one.says for one in statements if not re.match(r"[A-Z][A-Za-z]* ?", one.says)]


def test_no_name_becomes_markup(hostile: UnitFacts) -> None:
    feature = {"name": "a", "label": "[x](http://e.example) *b* `c` | -", "lower": 0, "upper": 1, "missing": 0}
    statements = notice(replace(hostile, plan=small_plan(features=[feature])))
    html, markdown = to_html(statements).decode(), to_markdown(statements).decode()
    assert Tags(html).found == {"section", "h2", "h3", "p", "mark"}
    assert "&lt;script&gt;" in html
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    assert Tags(rendered).found == {"h2", "h3", "p", "strong"}
    shown = CONTROLLER.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert f"<p>Responsible for your data: {shown}</p>" in rendered
