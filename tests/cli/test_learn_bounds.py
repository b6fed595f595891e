"""Bounds are asked for with a plan of its own, shown with what they cost, and filled into the next plan."""

from pathlib import Path
from typing import Any

import pytest

from fedseg.ledger.keys import SigningKey
from fedseg.plan import parse_plan
from fedseg.segments.segmentation import LearnedBounds, SignedSegmentation, parse_signed
from tests.cli.conftest import Cli
from tests.small_scenario import write_bounds_scenario

COLUMNS = """\
customer_id = "varchar(12)"
visits = "integer"
spend = "decimal(10,2)"
age = "integer"
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "columns.toml").write_text(COLUMNS, encoding="utf-8")
    return Cli(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fedseg simulate` left of a scenario that asks for bounds; not to be written to."""
    folder = tmp_path_factory.mktemp("bounds")
    write_bounds_scenario(folder)
    ended = Cli(folder).here("simulate", "scenario.toml", "--out", "run", "--format", "json")
    assert ended.code == 0, ended.err
    data = ended.envelope["data"]
    assert (data["segments"], data["cost_ratio"], data["rounds"], data["ledger_verified"]) == ([], None, 1, True)
    return folder / "run"


def decided(cli: Cli, plan: str) -> None:
    """Give the units of a proposed plan keys."""
    path = cli.folder / plan
    text = path.read_text(encoding="utf-8")
    for _ in range(2):
        key = SigningKey.generate().public.to_text()
        text = text.replace('public_key = "TO DECIDE"', f'public_key = "{key}"', 1)
    path.write_text(text, encoding="utf-8")


def propose_search(cli: Cli, *, customers: int) -> dict[str, Any]:
    """A decided plan for bounds, and what `plan show` says of it."""
    ended = cli.here("plan", "init", "columns.toml", "--learn-bounds", "--customers", customers, "--out", "bounds.toml")
    assert ended.code == 0, ended.err
    decided(cli, "bounds.toml")
    data: dict[str, Any] = cli.here("plan", "show", "bounds.toml", "--format", "json").envelope["data"]
    return data


# The plan for bounds


def test_a_proposed_plan_for_bounds_asks_for_the_numbers_that_nobody_knows_at_a_tenth_of_epsilon(cli: Cli) -> None:
    data = propose_search(cli, customers=40_000)
    plan = parse_plan((cli.folder / "bounds.toml").read_bytes())

    assert plan.learns_bounds
    assert (data["algorithm"], data["epsilon"], data["columns"]) == ("bounds", 0.1, 4)
    assert [one["name"] for one in data["features"]] == ["visits", "spend"]
    assert all(one["missing_flag"] for one in data["features"])
    text = (cli.folder / "bounds.toml").read_text(encoding="utf-8")
    assert "# Left out: 'age'; its bounds are known: 0 to 120." in text
    assert "It costs budget of its own" in text


def test_what_leaves_what_it_costs_and_what_is_seen_are_said_before_anybody_agrees(cli: Cli) -> None:
    data = propose_search(cli, customers=40_000)
    shown = cli.here("plan", "show", "bounds.toml").out

    (step,) = data["steps"]
    assert (step["kind"], step["cells"], step["integers"]) == ("histogram", 1, 4 * 64)
    assert data["forecast"]["carried"] is True
    assert data["forecast"]["smallest_share"] == data["forecast"]["smallest_group"] / 40_000
    for text in (
        "bounds: bounds of 2 features for fedseg:SegmentStatistics",
        "how many are in each of 64 equal parts of each column's range",
        "in all 2 units together at most 0.1, at delta 1e-06",
        "0 to 1,000,000,000 on a logarithm; missing counts as 0; a column says whether it is missing",
        "1.6 % of those expected",
    ):
        assert text in shown
    for word in ("segment's", "signal", "distances", "WARNING"):
        assert word not in shown


def test_a_plan_for_bounds_that_the_budget_cannot_carry_is_warned_of_with_what_would_help(cli: Cli) -> None:
    facts = propose_search(cli, customers=2_000)["forecast"]
    shown, checked = cli.here("plan", "show", "bounds.toml").out, cli.here("plan", "check", "bounds.toml")

    assert facts["carried"] is False
    assert "WARNING: this budget cannot carry this question." in shown
    assert "WARNING" in checked.out
    assert "more customers" in shown
    enough = {one["change"]: one["needed"] for one in facts["remedies"]}
    path = cli.folder / "bounds.toml"
    text = path.read_text(encoding="utf-8")
    for change, carried in ((enough["customers"], True), (enough["customers"] - 1, False)):
        path.write_text(text.replace("= 2000", f"= {change}"), encoding="utf-8")
        data = cli.here("plan", "check", "bounds.toml", "--format", "json").envelope["data"]
        assert data["carried"] is carried


@pytest.mark.parametrize(("customers", "epsilon"), [(1, "1/50"), (10**12, "1000/1")])
def test_no_plan_for_bounds_is_too_strange_to_be_shown(cli: Cli, customers: int, epsilon: str) -> None:
    propose_search(cli, customers=customers)
    path = cli.folder / "bounds.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('"1/10"', f'"{epsilon}"'), encoding="utf-8")

    assert cli.here("plan", "show", "bounds.toml").code == 0


def test_a_table_without_unknown_numbers_needs_no_plan_for_bounds(cli: Cli) -> None:
    (cli.folder / "known.toml").write_text('age = "integer"\nvip = "boolean"\n', encoding="utf-8")

    ended = cli.here("plan", "init", "known.toml", "--learn-bounds")

    assert ended.code == 8
    assert "its bounds are known: 0 to 120" in ended.err


# The result


@pytest.mark.parametrize("command", ["show", "describe"])
def test_the_result_is_shown_as_bounds_with_the_next_command(cli: Cli, run: Path, command: str) -> None:
    shown = cli.here("segments", command, run).out

    assert "visits a year" in shown
    assert "beyond them" in shown
    assert f"next   fedseg plan init TABLE_SCHEMA --bounds {run}/segmentation.json --out plan.toml" in shown
    data = cli.here("segments", command, run, "--format", "json").envelope["data"]
    assert [one["feature"] for one in data["bounds"]] == ["visits", "spend"]
    assert data["segments"] == []


def test_a_simulation_of_it_says_the_same(cli: Cli, run: Path) -> None:
    again = cli.here("simulate", run.parent / "scenario.toml", "--out", "again")

    assert "spend a year" in again.out
    assert "segments recomputed from signed releases: yes" in again.out
    assert "next   fedseg plan init" in again.out


def test_the_next_plan_has_the_bounds_that_were_found(cli: Cli, run: Path) -> None:
    arguments = ("plan", "init", "columns.toml", "--bounds", run, "--customers", 2000, "--k", 2)
    assert cli.here(*arguments, "--out", "plan.toml").code == 0
    decided(cli, "plan.toml")

    found = {one.feature: one for one in parse_signed((run / "segmentation.json").read_bytes()).segmentation.bounds}
    plan = parse_plan((cli.folder / "plan.toml").read_bytes())
    features = {
        one["name"]: one
        for one in cli.here("plan", "show", "plan.toml", "--format", "json").envelope["data"]["features"]
    }
    assert not plan.learns_bounds
    for name, one in found.items():
        assert (features[name]["lower"], features[name]["upper"]) == (one.lower, one.upper)
        assert features[name]["transform"] == one.transform
    assert (features["age"]["lower"], features["age"]["upper"]) == (0, 120)
    text = (cli.folder / "plan.toml").read_text(encoding="utf-8")
    assert "# learned; beyond the bounds are 0 % to " in text
    assert "# Learned bounds come from plan small" in text


def signed(run: Path, **changes: Any) -> bytes:
    """The result with another first feature, signed by somebody."""
    found = parse_signed((run / "segmentation.json").read_bytes()).segmentation
    first = LearnedBounds.model_validate(found.bounds[0].model_dump() | changes)
    changed = found.model_copy(update={"bounds": (first, *found.bounds[1:])})
    return SignedSegmentation.sign(changed, SigningKey.generate()).to_json()


def test_what_was_not_found_people_must_decide(cli: Cli, run: Path) -> None:
    (cli.folder / "result.json").write_bytes(signed(run, lower=None, upper=None))

    ended = cli.here("plan", "init", "columns.toml", "--bounds", "result.json", "--format", "json")
    shown = cli.here("segments", "show", "result.json").out

    places = ended.envelope["data"]["to_decide"]
    assert {f"features.visits.{key}" for key in ("lower", "upper", "missing")} <= set(places)
    assert not any("spend" in place for place in places)
    assert "nothing stood above the noise" in ended.envelope["data"]["plan"]
    assert "nothing stands above the noise" in shown


def test_customers_at_the_limit_and_many_missing_values_are_remarked_on(cli: Cli, run: Path) -> None:
    share = {"category": "missing", "share": 0.4, "low": 0.3, "high": 0.5}
    (cli.folder / "result.json").write_bytes(signed(run, at_limit=True, missing=share))

    plan = cli.here("plan", "init", "columns.toml", "--bounds", "result.json").out

    assert "# some may be beyond the range in which bounds were looked for" in plan
    assert "# 40 % have no value: missing_flag = true shows them apart" in plan
    assert "* Customers stand at an end" in cli.here("segments", "show", "result.json").out


# What is refused


def test_a_changed_result_is_not_filled_in(cli: Cli, run: Path) -> None:
    whole = (run / "segmentation.json").read_bytes()
    (cli.folder / "result.json").write_bytes(whole.replace(b'"upper":', b'"upper":1', 1))

    ended = cli.here("plan", "init", "columns.toml", "--bounds", "result.json")

    assert ended.code == 9
    assert ended.out == ""


def test_a_result_of_other_columns_or_of_segments_is_refused(cli: Cli, run: Path) -> None:
    (cli.folder / "other.toml").write_text('clicks = "integer"\n', encoding="utf-8")
    found = parse_signed((run / "segmentation.json").read_bytes()).segmentation.model_copy(update={"bounds": ()})
    (cli.folder / "segments.json").write_bytes(SignedSegmentation.sign(found, SigningKey.generate()).to_json())

    other = cli.here("plan", "init", "other.toml", "--bounds", run)
    segments = cli.here("plan", "init", "columns.toml", "--bounds", "segments.json")

    assert (other.code, segments.code) == (8, 8)
    assert "it is about visits, spend" in other.err
    assert "it holds segments" in segments.err


def test_asking_for_bounds_and_filling_them_in_are_two_plans(cli: Cli, run: Path) -> None:
    ended = cli.here("plan", "init", "columns.toml", "--learn-bounds", "--bounds", run)

    assert ended.code == 2
    assert "do not go together" in ended.err
