"""The impact assessment: a file that the PIA software's import takes, with facts in it and nobody's opinion."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from fedseg.governance.dpia import JUDGEMENTS, LEFT_EMPTY, QUESTIONS, assessment, to_json
from fedseg.governance.facts import UnitFacts
from fedseg.governance.statements import TO_BE_FILLED, blanks
from tests.governance.conftest import SHIPPED, FactsOf

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SOFTWARE_ASKS = [
    *(111, 112, 113, 121, 122, 123),
    *(211, 212, 213, 214, 215, 221, 222, 223, 224, 225, 226, 227),
    *(321, 322, 323, 324, 325, 326, 331, 332, 333, 334, 335, 336, 341, 342, 343, 344, 345, 346),
]
"""Ids of the questions in LINCnil/pia, src/assets/files/pia_architecture.json."""
OPINIONS = [
    "dpos_names",
    "dpo_status",
    "dpo_opinion",
    "people_names",
    "concerned_people_searched_opinion",
    "concerned_people_searched_content",
    "concerned_people_status",
    "concerned_people_opinion",
]


class Tags(HTMLParser):
    """The tags in a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag if not attrs else f"{tag} with attributes")


def exported(facts: UnitFacts) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(to_json(facts, assessment(facts), NOW))
    return document


def texts(facts: UnitFacts) -> dict[int, str]:
    return {one["reference_to"]: one["data"]["text"] for one in exported(facts)["answers"]}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_has_all_that_the_softwares_import_reads(name: str, facts_of: FactsOf) -> None:
    found = exported(facts_of(name))
    assert list(found) == ["pia", "answers", "measures", "evaluations", "comments"]
    pia = found["pia"]
    assert isinstance(pia["dbVersion"], int)
    assert (pia["status"], pia["is_example"], pia["is_archive"]) == (0, 0, 0)
    assert all(isinstance(pia[key], str) and pia[key] for key in ("name", "author_name", "evaluator_name"))
    for one in [pia, *found["answers"], *found["measures"]]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["created_at"])
    for one in found["answers"]:
        assert set(one) == {"id", "pia_id", "reference_to", "data", "created_at", "updated_at"}
        assert set(one["data"]) == {"text", "gauge", "list"}
        assert (one["pia_id"], one["data"]["gauge"], one["data"]["list"]) == (pia["id"], None, [])
    for one in found["measures"]:
        assert set(one) == {"id", "pia_id", "title", "content", "placeholder", "created_at", "updated_at"}
    assert len({one["id"] for one in found["measures"]}) == len(found["measures"])


def test_every_question_of_the_software_is_answered_or_left_to_people() -> None:
    assert [int(one) for one in (*QUESTIONS, *JUDGEMENTS)] == SOFTWARE_ASKS
    assert len(JUDGEMENTS) + 2 == LEFT_EMPTY


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_processing_is_stands_there_and_risks_and_opinions_do_not(name: str, facts_of: FactsOf) -> None:
    found = exported(facts_of(name))
    assert [str(one["reference_to"]) for one in found["answers"]] == list(QUESTIONS)
    assert all(one["data"]["text"] for one in found["answers"])
    assert found["evaluations"] == found["comments"] == []
    assert {found["pia"][key] for key in OPINIONS} == {None}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_blank_is_in_the_file_and_counted(name: str, facts_of: FactsOf) -> None:
    facts = facts_of(name)
    text = to_json(facts, assessment(facts), NOW).decode()
    assert text.count(TO_BE_FILLED) == blanks(assessment(facts)) > 0


@pytest.mark.parametrize(
    ("old", "new", "question", "said"),
    [
        ("Example Retail GmbH", "Other Retail AG", 112, "Other Retail AG"),
        ("id: gdpr-legitimate-interest", "id: other", 111, "under the policy other"),
        ("frequency", "how_often", 121, "how_often"),
        ("frequency", "how_often", 213, "how_often"),
        ("raw_days: 395", "raw_days: 100", 215, "100 days"),
        ("loc:CH, loc:GB", "loc:CH", 212, "under the law of Switzerland (basis"),
        ("price-discrimination", "social-scoring", 211, "rating people"),
        ("notice_min_version: 4", "notice_min_version: 9", 221, "version 3 or version 9 of"),
        ("max_age_days: 730", "max_age_days: 365", 222, "At most 365 days"),
        ("min_cohort: 200", "min_cohort: 777", 213, "fewer than 777"),
    ],
)
def test_a_changed_policy_changes_the_answer(old: str, new: str, question: int, said: str, facts_of: FactsOf) -> None:
    assert said not in texts(facts_of("gdpr-legitimate-interest"))[question]
    assert said in texts(facts_of("gdpr-legitimate-interest", (old, new)))[question]


def test_the_measures_follow_the_policy(facts_of: FactsOf) -> None:
    changed = facts_of("minimal", ('rho_cap: "1/10"', 'rho_cap: "1/4"'))
    content = {one["title"]: one["content"] for one in exported(changed)["measures"]}
    assert "epsilon 3.55" in content["Differential privacy"]
    assert "NOT PRIVATE" not in content
    rehearsed = facts_of("minimal", noise=frozenset({"simulated"}))
    assert "NOT PRIVATE" in [one["title"] for one in exported(rehearsed)["measures"]]


def test_legitimate_interests_ask_for_a_balancing_test(facts_of: FactsOf) -> None:
    assert "Balancing test" in texts(facts_of("gdpr-legitimate-interest"))[212]
    assert "Balancing test" not in texts(facts_of("gdpr-marketing"))[212]


def test_processors_are_named_where_there_are_any(facts_of: FactsOf) -> None:
    assert "campaign-service" in texts(facts_of("ccpa"))[226]
    assert "names none" in texts(facts_of("minimal"))[226]
    assert "No purpose rests on consent" not in texts(facts_of("ccpa"))[222]


def test_no_name_becomes_markup(hostile: UnitFacts) -> None:
    found = exported(hostile)
    html = [one["data"]["text"] for one in found["answers"]] + [one["content"] for one in found["measures"]]
    assert set().union(*(Tags(text).found for text in html)) == {"p", "strong"}
    assert "&lt;script&gt;" in texts(hostile)[112]
    assert "&lt;img src=x" in texts(hostile)[123]
    assert "\u202e" not in json.dumps(found, ensure_ascii=False)


def test_the_same_facts_give_the_same_bytes(facts_of: FactsOf) -> None:
    facts = facts_of("minimal")
    assert to_json(facts, assessment(facts), NOW) == to_json(facts, assessment(facts), NOW)
