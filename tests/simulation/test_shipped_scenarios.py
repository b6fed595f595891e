"""Every scenario that ships with fedseg can be run as it is, and says whose data it uses."""

from pathlib import Path

import pytest

from fedseg.policy.document import load_policy
from fedseg.segments.segmentation import GroupValue
from fedseg.simulation.data import all_customers, split_units
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario

SIMULATIONS = Path(__file__).parents[2] / "simulations"
SCENARIOS = sorted(SIMULATIONS.glob("*/scenario.toml"))
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "scenario.md"

scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=[path.parent.name for path in SCENARIOS])


@scenarios
def test_a_scenarios_units_split_its_customers_and_its_policy_allows_its_columns(scenario: Path) -> None:
    loaded = load_scenario(scenario)
    customers = all_customers(loaded)
    units = split_units(loaded, customers)
    assert sum(rows.num_rows for rows in units.values()) == customers.num_rows
    policy = load_policy((loaded.folder / loaded.scenario.policy).read_bytes())
    columns = {feature["name"] for feature in loaded.scenario.plan["features"]}
    assert columns <= set(policy.rule(loaded.scenario.plan["purpose"]).columns.allow)


@scenarios
def test_data_in_a_file_has_its_licence_beside_it(scenario: Path) -> None:
    if load_scenario(scenario).scenario.data.file is not None:
        assert "licensed under" in (scenario.parent / "LICENSE-DATA.md").read_text(encoding="utf-8")


@scenarios
def test_a_scenario_is_on_the_reference_page(scenario: Path) -> None:
    assert f"`simulations/{scenario.parent.name}/scenario.toml`" in PAGE.read_text(encoding="utf-8")


def test_contracts_lines_and_answers_of_the_telephone_company_become_segments(tmp_path: Path) -> None:
    result = simulate(load_scenario(SIMULATIONS / "telco_churn" / "scenario.toml"), tmp_path / "run")
    assert result.ledger_verified
    shown = [segment for segment in result.signed.segmentation.segments if not segment.suppressed]
    lines = [value for segment in shown for value in segment.values if value.feature == "InternetService"]
    assert lines
    for value in lines:
        assert isinstance(value, GroupValue)
        assert [share.category for share in value.shares] == ["DSL", "Fiber optic", "No", "other"]
    assert any(word in segment.name for segment in shown for word in ("DSL", "fibre", "no internet"))
