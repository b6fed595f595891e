"""What others call their plans, units, columns and categories cannot pretend to be something else, wherever it is shown."""

import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import PlanError, PolicyDocumentError
from fedseg.names import require_plain, require_visible
from fedseg.plan import parse_plan
from fedseg.policy.document import load_policy
from tests.small_federation import plan_terms, policy_document

UNIT = {"name": "north", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}

HIDDEN = {
    "a line break": "visits\nverified   yes",
    "a return": "visits\rverified",
    "a terminal's colour": "visits\x1b[31m",
    "a bell": "visits\a",
    "delete": "visits\x7f",
    "a later control character": "visits\x9b31m",
    "no width": "vis\u200bits",
    "a joiner": "vis\u2060its",
    "a byte order mark": "\ufeffvisits",
    "the other direction": "visits \u202edetrever",
    "an isolate": "visits \u2066x\u2069",
    "a line separator": "visits\u2028verified",
    "a private sign": "visits \ue000",
    "a blank of its own": "visits\u00a0a year",
    "a blank before": " visits",
    "a blank after": "visits ",
}


def named(name: str) -> dict[str, Any]:
    return plan_terms([UNIT], name=name)


def unit(name: str) -> dict[str, Any]:
    return plan_terms([UNIT | {"name": name}])


def feature(name: str) -> dict[str, Any]:
    terms = plan_terms([UNIT])
    terms["features"][0]["name"] = name
    return terms


def label(name: str) -> dict[str, Any]:
    terms = plan_terms([UNIT])
    terms["features"][0]["label"] = name
    return terms


def word(name: str) -> dict[str, Any]:
    terms = plan_terms([UNIT])
    terms["features"][0]["low_word"] = name
    return terms


def category(name: str) -> dict[str, Any]:
    terms = plan_terms([UNIT])
    terms["features"][0] = {"kind": "categorical", "name": "contract", "label": "contract", "vocabulary": ["A", name]}
    return terms


@pytest.mark.parametrize("text", HIDDEN.values(), ids=list(HIDDEN))
@pytest.mark.parametrize("place", [named, unit, feature, label, word, category])
def test_no_name_in_a_plan_hides_anything(place: Callable[[str], dict[str, Any]], text: str) -> None:
    parse_plan(tomli_w.dumps(place("visits")).encode())
    with pytest.raises(PlanError):
        parse_plan(tomli_w.dumps(place(text)).encode())


def test_what_looks_alike_is_alike_in_a_label() -> None:
    with pytest.raises(PlanError, match="composed form"):
        parse_plan(tomli_w.dumps(label("Cafe\u0301")).encode())
    found = parse_plan(tomli_w.dumps(label("Café & Söhne, 100 % (€)")).encode())
    assert found.features[0].label == "Café & Söhne, 100 % (€)"


def test_a_policys_controller_hides_nothing() -> None:
    document = policy_document().replace(b"Small Retail, Example City", '"Small\u202eliateR"'.encode())
    with pytest.raises(PolicyDocumentError):
        load_policy(document)


@given(st.text(max_size=40))
def test_whatever_passes_stays_on_its_line_and_in_its_direction(text: str) -> None:
    try:
        kept = require_plain(text)
    except ValueError:
        return
    assert kept == text == require_visible(text)
    assert len(text.splitlines()) <= 1
    assert text.isprintable()
    assert not any(0x200B <= ord(one) <= 0x200F or 0x202A <= ord(one) <= 0x202E for one in text)


def test_toml_itself_cannot_smuggle_one_in() -> None:
    document = tomli_w.dumps(plan_terms([UNIT])).replace("visits a year", "visits \\u202e year")
    assert "\u202e" in tomllib.loads(document)["features"][0]["label"]
    with pytest.raises(PlanError, match=r"U\+202E"):
        parse_plan(document.encode())
