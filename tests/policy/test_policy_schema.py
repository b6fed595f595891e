"""The published JSON Schema: editors accept with it what fedseg accepts, and mark what it refuses for its form."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from fedseg.policy.document import json_schema
from tests.policy import test_policy_document, test_policy_form

SHIPPED = sorted(Path("policies").absolute().glob("*.yaml"))
VALIDATOR = Draft202012Validator(json_schema())


def parsed(document: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(document)
    return found


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_policy_fits_the_schema(path: Path) -> None:
    assert not list(VALIDATOR.iter_errors(parsed(path.read_text(encoding="utf-8"))))


def test_every_part_of_the_form_fits_the_schema() -> None:
    assert not list(VALIDATOR.iter_errors(parsed(test_policy_form.POLICY + test_policy_form.APPROVALS)))


BY_FORM = [
    *(
        "no way at all",
        "two forms at once",
        "a basis without what it requires",
        "what consent alone requires beside ways",
        "too many columns",
        "an empty list of ways",
        "unknown basis",
    ),
    *("no basis", "unknown key of a way", "consent in a way by notice", "absence in a way by consent"),
    *("notice without jurisdictions", "no jurisdiction", "unknown jurisdiction", "unknown as a jurisdiction"),
    *("notice of a huge version", "consent without a limit of age", "no special column"),
    *("other basis of special categories", "no recipient", "other kind of recipient", "endpoint in the clear"),
    *("endpoint with a query", "no forbidden use", "unknown use"),
]
"""The refusals that a schema can say; the others weigh two keys against each other."""


@pytest.mark.parametrize("name", BY_FORM)
def test_a_slip_in_the_form_does_not_fit_the_schema(name: str) -> None:
    old, new, _ = test_policy_form.REFUSALS[name]
    assert not VALIDATOR.is_valid(parsed(test_policy_form.POLICY.replace(old, new)))


@pytest.mark.parametrize(
    "name", ["unknown key", "unknown key inside", "unknown purpose", "unknown veto", "unknown status"]
)
def test_a_misspelt_name_does_not_fit_the_schema(name: str) -> None:
    old, new, _ = test_policy_document.REFUSALS[name]
    assert not VALIDATOR.is_valid(parsed(test_policy_document.POLICY.replace(old, new)))
