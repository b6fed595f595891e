"""`fedseg plan`: what leaves a unit is said of every kind of round and feature, what to expect is said beforehand, and a
proposed plan is refused until people have decided."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.clustering.schedule import Kind
from fedseg.ledger.keys import SigningKey
from fedseg.plan import parse_plan
from tests.cli.conftest import Cli
from tests.small_federation import plan_terms

KINDS = set(Kind) - {Kind.HISTOGRAM}
"""Of a plan for segments; a plan for bounds is in `test_learn_bounds.py`."""

HEADER = "customer_id,recency_days,orders,country,foo\n"

FEATURES: list[dict[str, Any]] = [
    {"name": "spend", "label": "spend", "lower": 0, "upper": 90_000, "missing": 0},
    {"name": "days", "label": "days", "lower": 0, "upper": 730, "missing": 730, "transform": "log1p"},
    {"name": "vip", "label": "vip", "kind": "binary", "missing_flag": True},
    {"name": "shop", "label": "shop", "kind": "categorical", "vocabulary": ["a", "b"], "weight": 0.5},
    {"name": "zip", "label": "zip", "kind": "region", "characters": 2, "vocabulary": ["10", "20", "30"]},
    {"name": "hour", "label": "hour", "kind": "cyclic", "period": 24},
]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def write_plan(cli: Cli, *, customers: int, units: int = 3, **changes: Any) -> str:
    """A plan of five segments in the current folder, with a feature of each kind."""
    named = [{"name": f"unit-{one}", "public_key": SigningKey.generate().public.to_text()} for one in range(units)]
    algorithm = {"name": "cells", "seed": 1, "expected_customers": customers}
    budget = {"epsilon": "1/1", "delta": "1/1000000"}
    terms = plan_terms(named, k=5, algorithm=algorithm, budget=budget, features=FEATURES, min_segment_size=50)
    (cli.folder / "plan.toml").write_text(tomli_w.dumps(terms | changes), encoding="utf-8")
    return "plan.toml"


def forecast_in(cli: Cli, plan: str) -> dict[str, Any]:
    data: dict[str, Any] = cli.here("plan", "show", plan, "--format", "json").envelope["data"]["forecast"]
    return data


# show


def test_every_round_is_said_by_its_kind_with_all_that_it_costs(cli: Cli) -> None:
    data = cli.here("plan", "show", write_plan(cli, customers=100_000), "--format", "json").envelope["data"]
    plan = parse_plan((cli.folder / "plan.toml").read_bytes())

    assert [one["kind"] for one in data["steps"]] == [one.kind.value for one in plan.settings.rounds]
    assert {one["kind"] for one in data["steps"]} == {kind.value for kind in KINDS}
    for one, terms in zip(data["steps"], plan.terms, strict=True):
        assert (one["cells"], one["integers"], one["sigma"]) == (terms.cells, terms.length, terms.mechanism.sigma)
        assert one["bytes"] > 8 * one["integers"]
        assert one["releases"].startswith("of ")


def test_people_read_what_each_kind_of_round_sends_and_how_each_feature_counts(cli: Cli) -> None:
    shown = cli.here("plan", "show", write_plan(cli, customers=100_000)).out

    for kind in KINDS:
        assert f"  {kind.value} " in shown
    for text in (
        "0 to 90,000; missing counts as 0",
        "0 to 730 on a logarithm; missing counts as 730",
        "yes or no; missing counts as no; a column says whether it is missing",
        "2 categories, and other",
        "the first 2 characters: 3 codes, and other",
        "from 0, the same again after 24",
        'better on a logarithm, transform = "log1p": spend',
    ):
        assert text in shown


def test_every_kind_of_feature_is_in_the_json_with_its_terms(cli: Cli) -> None:
    data = cli.here("plan", "show", write_plan(cli, customers=100_000), "--format", "json").envelope["data"]

    found = {one["name"]: one for one in data["features"]}
    assert [found[one["name"]]["kind"] for one in FEATURES] == [one.get("kind", "numeric") for one in FEATURES]
    assert sum(one["columns"] for one in data["features"]) == data["columns"] == 13
    assert found["days"]["transform"] == "log1p"
    assert found["shop"]["weight"] == 0.5


def test_a_carried_plan_is_shown_with_what_to_expect_and_no_advice(cli: Cli) -> None:
    plan = write_plan(cli, customers=100_000)

    shown, facts = cli.here("plan", "show", plan).out, forecast_in(cli, plan)

    assert facts["carried"] is True
    assert facts["remedies"] == []
    assert 0 < facts["excess"] < 0.2
    assert "WARNING" not in shown
    assert "What to expect" in shown


def test_a_plan_that_the_budget_cannot_carry_is_warned_of_with_what_would_help(cli: Cli) -> None:
    plan = write_plan(cli, customers=1_500)

    shown, facts, checked = cli.here("plan", "show", plan).out, forecast_in(cli, plan), cli.here("plan", "check", plan)

    assert facts["carried"] is False
    assert "WARNING: this budget cannot carry this question." in shown
    assert "WARNING" in checked.out
    assert checked.code == 0
    advice = {one["change"]: one for one in facts["remedies"]}
    enough = int(advice["customers"]["needed"])
    assert forecast_in(cli, write_plan(cli, customers=enough))["carried"] is True
    assert forecast_in(cli, write_plan(cli, customers=enough - 1))["carried"] is False


def test_secure_aggregation_is_not_advised_while_customers_may_be_in_every_unit(cli: Cli) -> None:
    plan = write_plan(cli, customers=1_500)

    assert "no help while a customer may be in every unit" in cli.here("plan", "show", plan).out
    secure = write_plan(cli, customers=1_500, trust="secure-aggregation")
    assert "secure aggregation  " not in cli.here("plan", "show", secure).out


def test_the_forecast_of_a_secure_sum_is_that_of_one_noise(cli: Cli) -> None:
    """With customers in every unit it is as strong as all noises of the units together."""
    apart = forecast_in(cli, write_plan(cli, customers=100_000))
    secure = forecast_in(cli, write_plan(cli, customers=100_000, trust="secure-aggregation"))

    assert secure["signal"] == pytest.approx(apart["signal"])


@pytest.mark.parametrize("customers", [1, 10**12])
@pytest.mark.parametrize("epsilon", ["1/50", "1000/1"])
def test_no_plan_is_too_strange_to_be_shown(cli: Cli, customers: int, epsilon: str) -> None:
    plan = write_plan(cli, customers=customers, budget={"epsilon": epsilon, "delta": "1/1000000"})

    assert cli.here("plan", "show", plan).code == 0


def test_fewer_units_per_customer_are_shown_as_the_units_word(cli: Cli) -> None:
    assert "in all 3 units together at most 1," in cli.here("plan", "show", write_plan(cli, customers=1_500)).out

    plan = write_plan(cli, customers=1_500, max_units_per_customer=1)

    assert "in 1 of 3 units, the most that each attests, at most 1," in cli.here("plan", "show", plan).out
    assert forecast_in(cli, plan)["carried"] is True


# init


def init(cli: Cli, *more: object, rows: str = "") -> tuple[int, str, str]:
    (cli.folder / "customers.csv").write_text(HEADER + rows, encoding="utf-8")
    ended = cli.here("plan", "init", "customers.csv", *more)
    return ended.code, ended.out, ended.err


def decide(cli: Cli, decisions: Mapping[str, str]) -> None:
    path = cli.folder / "plan.toml"
    text = path.read_text(encoding="utf-8")
    for before, after in decisions.items():
        assert before in text
        text = text.replace(before, after, 1)
    path.write_text(text, encoding="utf-8")


def test_rows_of_garbage_give_the_same_plan(cli: Cli) -> None:
    plain = init(cli)

    assert plain[0] == 0
    assert init(cli, rows="4711,\x00,\x01,\x02\n" * 50) == plain
    assert init(cli, rows="C-1,3,7,France,x\n") == plain


def test_a_proposed_plan_is_refused_until_everything_is_decided_and_then_used(cli: Cli) -> None:
    code, out, err = init(cli, "--out", "plan.toml", "--customers", 40_000, "--k", 4)
    assert (code, err) == (0, "")
    assert "4 features proposed, 1 columns left out, 4 things to decide" in out

    refused = cli.here("plan", "check", "plan.toml")
    assert refused.code == 2
    assert refused.error[0] == "E203: the plan is not finished"
    for place in ("features.country.vocabulary", "features.foo.kind", "units.unit-1.public_key"):
        assert place in refused.error[1]
    assert cli.here("plan", "show", "plan.toml").error == refused.error

    decide(cli, {'vocabulary = "TO DECIDE"': 'vocabulary = ["France"]', 'kind = "TO DECIDE"': 'kind = "binary"'})
    for _ in range(2):
        key = SigningKey.generate().public.to_text()
        decide(cli, {'public_key = "TO DECIDE"': f'public_key = "{key}"'})
    used = cli.here("plan", "check", "plan.toml", "--format", "json").envelope["data"]
    assert (used["units"], used["carried"]) == (2, True)


def test_scripts_get_the_plan_and_what_is_to_decide(cli: Cli) -> None:
    (cli.folder / "customers.csv").write_text(HEADER, encoding="utf-8")

    data = cli.here("plan", "init", "customers.csv", "--format", "json").envelope["data"]

    assert data["features"] == ["recency_days", "orders", "country", "foo"]
    assert data["left_out"] == {"customer_id": "it names customers"}
    assert "algorithm.expected_customers" in data["to_decide"]
    assert data["plan"].startswith("# A plan proposed")


def test_a_plan_is_never_written_over(cli: Cli) -> None:
    (cli.folder / "plan.toml").write_text("edited", encoding="utf-8")

    code, _, err = init(cli, "--out", "plan.toml")

    assert code == 2
    assert "is there already" in err
    assert (cli.folder / "plan.toml").read_text(encoding="utf-8") == "edited"
