"""The record of processing: every letter of Article 30(1), each fact with its source, each gap a counted blank."""

import csv
import io
import json
from fractions import Fraction
from typing import Any

import pytest

from fedseg.governance.facts import UnitFacts
from fedseg.governance.measures import PROGRAM
from fedseg.governance.record import COLUMNS, cell_text, record, to_csv, to_json
from fedseg.governance.statements import TO_BE_FILLED, blanks
from fedseg.node.home import NodeSettings
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.document import Policy
from tests.governance.conftest import SHIPPED, FactsOf

LETTERS = [f"30(1)({letter})" for letter in "abcdefg"]


def rows(facts: UnitFacts) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(record(facts)).decode("utf-8-sig"), newline="")))


def document(facts: UnitFacts) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(facts, record(facts)))
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_every_letter_of_the_article_has_its_place_in_order(name: str, facts_of: FactsOf) -> None:
    assert list(dict.fromkeys(one.place for one in record(facts_of(name)))) == LETTERS


@pytest.mark.parametrize("name", SHIPPED)
def test_whatever_has_no_source_is_a_blank_and_counted(name: str, facts_of: FactsOf) -> None:
    facts = facts_of(name)
    found = document(facts)
    assert found["blanks"] == sum(one["blank"] for one in found["statements"]) > 0
    assert found["blanks"] == sum(row[-1] == "yes" for row in rows(facts))
    assert all(
        (one["source"] == "") == one["blank"] == one["says"].startswith(TO_BE_FILLED) for one in found["statements"]
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_exists(name: str, facts_of: FactsOf) -> None:
    for one in (one for one in record(facts_of(name)) if not one.is_blank):
        for source in one.source.split("; "):
            file, _, keys = source.partition(": ")
            known = {
                "policy": set(Policy.model_fields),
                "node.toml": set(NodeSettings.model_json_schema(by_alias=True)["properties"]),
                "ledger": {"charges", "releases"},
                PROGRAM: {""},
            }[file]
            assert {key.partition(".")[0] for key in keys.split(", ")} <= known, source


def test_table_and_document_say_the_same(facts_of: FactsOf) -> None:
    facts = facts_of("gdpr-marketing")
    heading, *table = rows(facts)
    assert tuple(heading) == COLUMNS
    assert [row[:4] for row in table] == [
        [one["article"], one["about"], one["says"], one["source"]] for one in document(facts)["statements"]
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ("Example Retail GmbH", "Other Retail AG", "30(1)(a)", "Other Retail AG"),
        ("frequency", "how_often", "30(1)(c)", "column how_often of the data source"),
        ("raw_days: 395", "raw_days: 100", "30(1)(f)", "100 days"),
        ("raw_days: 395", "raw_days: 395\n  lapsed_days: 90", "30(1)(f)", "90 days"),
        ("consent_evidence_days: 1095", "consent_evidence_days: 1096", "30(1)(f)", "1,096 days"),
        ("suppression_days: 3650", "suppression_days: 3651", "30(1)(f)", "3,651 days"),
        ("backup_days: 30", "backup_days: 31", "30(1)(f)", "31 days"),
        ('rho_cap: "1/10"', 'rho_cap: "1/4"', "30(1)(g)", "epsilon 3.55 at delta 1/1,000,000"),
        ('delta: "1/1000000"', 'delta: "1/2000000"', "30(1)(g)", "delta 1/2,000,000"),
        ("min_cohort: 200", "min_cohort: 777", "30(1)(g)", "fewer than 777 customers"),
        ("price-discrimination", "social-scoring", "30(1)(g)", "rating people by their conduct"),
        ("jurisdictions: [loc:EEA]", "jurisdictions: [loc:GB]", "30(1)(b)", "under the law of loc:GB"),
        ("basis: dpv:Consent", "basis: eu-gdpr:A6-1-a", "30(1)(b)", "eu-gdpr:A6-1-a: consent (Article 6(1)(a) GDPR)"),
    ],
)
def test_a_changed_policy_changes_what_the_record_says(
    old: str, new: str, place: str, said: str, facts_of: FactsOf
) -> None:
    def holds(facts: UnitFacts) -> bool:
        return any(said in one.says for one in record(facts) if one.place == place)

    assert not holds(facts_of("gdpr-legitimate-interest"))
    assert holds(facts_of("gdpr-legitimate-interest", (old, new)))


def test_recipients_are_named_with_what_they_are(facts_of: FactsOf) -> None:
    says = {one.about: one.says for one in record(facts_of("ccpa")) if one.place == "30(1)(d)"}
    assert says["Recipient campaign-service"].startswith("processor; ")
    joint = [one.says for one in record(facts_of("health-cross-industry")) if one.about == "Joint controller"]
    assert joint == ["segment-coordinator; about rights requests: https://privacy.coordinator.example/requests"]


def test_special_categories_are_marked_with_why_they_may_be_read(facts_of: FactsOf) -> None:
    says = {one.about: one.says for one in record(facts_of("health-cross-industry"))}
    assert "special category, explicit consent" in says["chronic_condition, for fedseg:SegmentStatistics"]
    says = {one.about: one.says for one in record(facts_of("ccpa"))}
    assert "special category, no plan may read it" in says["precise_location, for fedseg:SegmentStatistics"]


def test_the_data_map_follows_the_units_settings(facts_of: FactsOf) -> None:
    source = SourceSettings(
        path="crm/people.parquet", format="parquet", subject="id", columns={"frequency": "n_orders"}
    )
    facts = facts_of(
        "minimal",
        source_file=source.path,
        source_format=source.format,
        subject_column=source.subject,
        source_columns=source.columns,
        register_in_database=True,
    )
    said = " ".join(one.says for one in record(facts) if one.place == "30(1)(c)")
    for part in (
        "crm/people.parquet (parquet)",
        "column id,",
        "column n_orders of",
        "a database on the unit's machine",
    ):
        assert part in said


def test_a_term_that_the_policy_does_not_state_is_a_blank(facts_of: FactsOf) -> None:
    without = facts_of("gdpr-legitimate-interest", ("  suppression_days: 3650\n", ""), ("  backup_days: 30\n", ""))
    assert blanks(record(without)) == blanks(record(facts_of("gdpr-legitimate-interest"))) + 2


def test_a_rehearsal_is_not_passed_off_as_private(facts_of: FactsOf) -> None:
    about = [one.about for one in record(facts_of("minimal", noise=frozenset({"system", "simulated"})))]
    assert "NOT PRIVATE" in about
    assert "NOT PRIVATE" not in [one.about for one in record(facts_of("minimal", noise=frozenset()))]


def test_more_spent_than_a_lowered_cap_allows_is_said(facts_of: FactsOf) -> None:
    said = {one.about: one.says for one in record(facts_of("minimal", rho_spent=Fraction(1, 4)))}
    assert "epsilon 3.55" in said["Spent before the cap was lowered"]
    assert "Spent before the cap was lowered" not in {one.about for one in record(facts_of("minimal"))}


def test_no_name_becomes_a_formula_or_another_line(hostile: UnitFacts) -> None:
    raw, table = to_csv(record(hostile)).decode("utf-8-sig"), rows(hostile)
    assert len(raw.splitlines()) == len(table)
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert not [cell for row in table for cell in row if cell.lstrip()[:1] in tuple("=+-@\uff1d")]
    assert any(cell.startswith("'=HYPERLINK(") for row in table for cell in row)
    assert "\u202e" not in raw
    assert "\u200b" not in raw
    assert all(part in raw for part in ("\\u000a", "\\u202e", "\\u200b"))


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", " =1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201"])
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", " ", "a=1", "1-2", "(x)", "'=1"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert cell_text(text) == text
