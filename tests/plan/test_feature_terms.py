"""Features of every kind in a plan: read strictly, hashed over all they say, and as wide as their columns."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import tomli_w

from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import NumericFeature
from fedseg.errors import PlanError
from fedseg.plan import PLAN_DIMENSIONS_MAX, Plan, parse_plan
from tests.kinds_scenario import FEATURES
from tests.small_federation import plan_terms

UNITS = [{"name": "north", "public_key": "A" * 43 + "="}]
CATEGORICAL = {"kind": "categorical", "name": "c", "label": "c", "vocabulary": ["a", "b"]}
REGION = {"kind": "region", "name": "r", "label": "r", "vocabulary": ["01"], "characters": 2}
BINARY = {"kind": "binary", "name": "b", "label": "is big"}
CYCLIC = {"kind": "cyclic", "name": "t", "label": "t", "period": 24}
NUMERIC = {"name": "n", "label": "n", "lower": 0, "upper": 10, "missing": 5}


def plan_of(*features: dict[str, Any]) -> Plan:
    return parse_plan(tomli_w.dumps(plan_terms(UNITS, features=list(features))).encode())


def test_every_kind_becomes_the_encoder_that_the_plan_describes() -> None:
    spend, senior, contract, postcode, hour, weekday = plan_of(*FEATURES).encoders
    assert isinstance(spend, NumericFeature)
    assert spend.missing_flag
    assert isinstance(senior, BinaryFeature)
    assert (senior.yes_word, senior.no_word, senior.missing) == ("senior", "younger", False)
    assert isinstance(contract, CategoricalFeature)
    assert contract.vocabulary == ("Monthly", "Yearly", "Café & <more>")
    assert contract.words == ("monthly contract", "yearly contract", "café")
    assert isinstance(postcode, RegionFeature)
    assert (postcode.characters, postcode.weight) == (2, Fraction(1, 2))
    assert isinstance(hour, CyclicFeature)
    assert (hour.period, hour.start, hour.names) == (24, 0, ())
    assert isinstance(weekday, CyclicFeature)
    assert (weekday.start, weekday.names[0], weekday.weight) == (1, "Monday", Fraction(3, 4))


def test_a_plan_has_as_many_dimensions_as_its_features_have_columns() -> None:
    plan = plan_of(*FEATURES)
    assert plan.dimensions == sum(feature.width for feature in plan.encoders) == 2 + 1 + 5 + 9 + 2 + 3
    assert plan_of(NUMERIC).dimensions == 1


def test_a_feature_that_names_no_kind_is_a_number_with_full_weight() -> None:
    plan = plan_of(NUMERIC)
    assert plan.digest == plan_of(NUMERIC | {"kind": "numeric", "weight": 1, "missing_flag": False}).digest
    assert plan.encoders == (NumericFeature("n", 0, 10, 5, label="n"),)


def test_words_for_answers_are_made_of_the_label_if_the_plan_has_none() -> None:
    (feature,) = plan_of(BINARY).encoders
    assert isinstance(feature, BinaryFeature)
    assert (feature.yes_word, feature.no_word) == ("is big", "not is big")


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        (NUMERIC, {"missing_flag": True}),
        (NUMERIC, {"weight": 0.5}),
        (BINARY, {"missing": True}),
        (BINARY, {"yes_word": "large"}),
        (CATEGORICAL, {"vocabulary": ["b", "a"]}),
        (CATEGORICAL, {"words": ["x", "y"]}),
        (REGION, {"characters": 3}),
        (CYCLIC, {"start": 1}),
        (CYCLIC, {"period": 23}),
    ],
)
def test_everything_about_a_feature_is_in_the_digest(feature: dict[str, Any], change: dict[str, Any]) -> None:
    assert plan_of(feature).digest != plan_of(feature | change).digest


def test_weights_are_read_exactly_as_written() -> None:
    plan = plan_of(NUMERIC | {"weight": 0.1})
    assert plan.features[0].weight == Decimal("0.1")
    assert plan.encoders[0].weight == Fraction(1, 10)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown kind": (NUMERIC | {"kind": "ordinal"}, "features.0: kind must be numeric, binary"),
    "a kind that is no text": (NUMERIC | {"kind": 7}, "features.0: kind must be numeric, binary"),
    "a key of another kind": (BINARY | {"lower": 0}, "features.0.lower: Extra inputs"),
    "a region without its length": (CATEGORICAL | {"kind": "region"}, "features.0.characters: Field required"),
    "no vocabulary": (CATEGORICAL | {"vocabulary": []}, "features.0.vocabulary: "),
    "an entry that is no text": (CATEGORICAL | {"vocabulary": [1]}, "features.0.vocabulary.0: "),
    "an empty entry": (CATEGORICAL | {"vocabulary": [""]}, "features.0.vocabulary.0: "),
    "a line break in an entry": (CATEGORICAL | {"vocabulary": ["a\nb"]}, "features.0.vocabulary.0: "),
    "a long entry": (CATEGORICAL | {"vocabulary": ["a" * 81]}, "features.0.vocabulary.0: "),
    "a large vocabulary": (CATEGORICAL | {"vocabulary": [str(one) for one in range(257)]}, "features.0.vocabulary: "),
    "an entry twice": (CATEGORICAL | {"vocabulary": ["a", "a"]}, "feature c: the vocabulary needs"),
    "markup in a word": (CATEGORICAL | {"words": ["<b>", "c"]}, "features.0.words.0: "),
    "too few words": (CATEGORICAL | {"words": ["x"]}, "feature c: there must be as many words"),
    "no characters": (REGION | {"characters": 0}, "features.0.characters: "),
    "too many characters": (REGION | {"characters": 33}, "features.0.characters: "),
    "an answer as a number": (BINARY | {"missing": 1}, "features.0.missing: "),
    "a flag as a text": (NUMERIC | {"missing_flag": "yes"}, "features.0.missing_flag: "),
    "a weight of nothing": (NUMERIC | {"weight": 0}, "feature n: the weight must lie"),
    "a weight above one": (NUMERIC | {"weight": 1.5}, "feature n: the weight must lie"),
    "a weight with seven decimals": (NUMERIC | {"weight": 0.1234567}, "feature n: the weight must lie"),
    "a weight as text": (NUMERIC | {"weight": "1/2"}, "features.0.weight: Value error, must be a number"),
    "no period": (CYCLIC | {"period": 0}, "feature t: the period must be positive"),
    "a period beyond all use": (CYCLIC | {"period": 10**18}, "feature t: the period must be positive"),
    "too few names": (CYCLIC | {"names": ["one"]}, "feature t: there must be one name"),
}


@pytest.mark.parametrize(("feature", "why"), REFUSED.values(), ids=list(REFUSED))
def test_a_feature_that_breaks_a_rule_is_refused_by_the_name_of_the_place(feature: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError) as refused:
        plan_of(feature)
    assert why in refused.value.why


def test_a_feature_that_is_only_a_name_is_refused_by_its_place() -> None:
    with pytest.raises(PlanError) as refused:
        parse_plan(tomli_w.dumps(plan_terms(UNITS, features=["visits"])).encode())
    assert "features.0: kind must be numeric" in refused.value.why


def test_more_columns_than_a_plan_may_have_are_refused() -> None:
    wide = [CATEGORICAL | {"name": f"c{place}", "vocabulary": [str(one) for one in range(255)]} for place in range(4)]
    assert plan_of(*wide).dimensions == PLAN_DIMENSIONS_MAX
    with pytest.raises(PlanError, match=f"the features have 1025 columns, at most {PLAN_DIMENSIONS_MAX}"):
        plan_of(*wide, NUMERIC)
