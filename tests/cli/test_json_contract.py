"""What scripts read: the keys and types that the command line's contract names, in one envelope."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Ended, Workspace

pytestmark = pytest.mark.processes

NUMBER = (int, float)

RUN_DATA: Mapping[str, Any] = {
    "out": str,
    "k": int,
    "units": list,
    "epsilon": NUMBER,
    "delta": NUMBER,
    "rho": NUMBER,
    "rounds": int,
    "seconds": NUMBER,
    "cost_ratio": NUMBER,
    "segments": list,
    "ledger_verified": bool,
}
LEDGER_DATA: Mapping[str, Any] = {
    "verified": bool,
    "size": int,
    "root": str,
    "rho_spent": NUMBER,
    "rho_cap": NUMBER,
    "epsilon_at_cap": NUMBER,
    "failures": list,
}


def holds(data: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    return all(isinstance(data[name], kind) for name, kind in keys.items())


def check_run(ended: Ended) -> dict[str, Any]:
    """The data of a run, with everything in it that the contract names."""
    envelope = ended.envelope
    assert (ended.code, envelope["status"], envelope["exit_code"]) == (0, "ok", 0)
    assert envelope["schema_version"] == 1
    assert "error" not in envelope
    data: dict[str, Any] = envelope["data"]
    assert holds(data, RUN_DATA)
    assert data["ledger_verified"] is True
    assert data["k"] == len(data["segments"])
    for segment in data["segments"]:
        assert set(segment) >= {"name", "size", "size_interval", "suppressed"}
        shown = not segment["suppressed"]
        assert isinstance(segment["size"], int) is shown
        assert (segment["size_interval"] is not None) is shown
    return data


def test_a_simulation_says_all_that_its_contract_names(workspace: Workspace) -> None:
    text = (workspace.folder / "result.json").read_text(encoding="utf-8")

    data = check_run(Ended(0, text, ""))

    assert (data["k"], data["units"], data["rounds"], data["out"]) == (2, ["north", "south"], 3, "run")
    assert (data["epsilon"], data["delta"]) == (2.0, 1e-6)


def test_a_run_leaves_the_files_that_its_contract_names(workspace: Workspace) -> None:
    names = ["segmentation.json", "plan.toml", "report.html", "report.json", "metrics.json", "server/ledger.db"]
    names += ["nodes/north/ledger.db", "nodes/south/ledger.db"]

    assert [name for name in names if not (workspace.run / name).is_file()] == []


def test_the_demo_says_all_that_its_contract_names_and_keeps_to_25_lines(tmp_path: Path) -> None:
    cli = Cli(tmp_path)

    spoken = cli("demo")
    data = check_run(cli("demo", "--format", "json"))

    assert spoken.code == 0
    assert len((spoken.out + spoken.err).splitlines()) <= 25
    assert max(map(len, spoken.out.splitlines())) <= 130
    assert data["out"] == "fedseg-demo-2"
    assert (tmp_path / "fedseg-demo" / "report.html").is_file()
    assert data["k"] == len(data["segments"]) == 5


def test_a_verified_ledger_says_all_that_its_contract_names(workspace: Workspace) -> None:
    ended = workspace.cli("ledger", "verify", workspace.run / "nodes/north/ledger.db", "--format", "json")

    data = ended.envelope["data"]
    assert holds(data, LEDGER_DATA)
    assert (data["verified"], data["size"], data["failures"]) == (True, 6, [])
    assert 0 < data["rho_spent"] <= data["rho_cap"]
    assert len(bytes.fromhex(data["root"])) == 32


def test_a_ledger_that_fails_has_the_same_keys_and_says_why(workspace: Workspace) -> None:
    ended = workspace.cli("ledger", "verify", workspace.plan, "--format", "json")

    data = ended.envelope["data"]
    assert set(data) >= set(LEDGER_DATA)
    assert data["verified"] is False
    assert [set(one) for one in data["failures"]] == [{"code", "what"}]


def test_an_exported_ledger_verifies_to_the_same_facts(workspace: Workspace) -> None:
    ledger = workspace.run / "nodes/north/ledger.db"
    assert workspace.cli("ledger", "export", ledger, "--out", "ledger.txt").code == 0

    live, exported = (
        workspace.cli.here("ledger", "verify", path, "--format", "json").envelope["data"]
        for path in (ledger, "ledger.txt")
    )

    assert live == exported


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["plan", "check", "plan.toml"], {"name": str, "plan_sha256": str, "units": int, "rounds": int}),
        (["plan", "show", "plan.toml"], {"plan_sha256": str, "steps": list, "features": list, "epsilon": float}),
        (["policy", "check", "policy.yaml"], {"id": str, "policy_sha256": str, "purposes": list}),
        (["budget", "show", "run/nodes/north"], {"rho_spent": float, "rho_cap": float, "epsilon_at_cap": float}),
        (["segments", "show", "run"], {"segments": list, "server_public_key": str}),
        (["report", "run"], {"html": str, "json": str}),
        (["explain", "E401"], {"code": str, "exit_code": int, "summary": str}),
        (["version"], {"version": str}),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_every_command_answers_in_one_envelope(command: list[str], keys: dict[str, type], workspace: Workspace) -> None:
    ended = workspace.cli.here(*command, "--format", "json")

    assert ended.code == 0, ended.err
    assert holds(ended.envelope["data"], keys)
    assert workspace.cli.here(*command).out


def test_a_plan_can_be_tried_without_approving_it(workspace: Workspace) -> None:
    before = workspace.files()

    tried = workspace.cli(*workspace.approve("--dry-run", "--format", "json"))

    assert tried.envelope["data"]["outcome"] == "checked, nothing reserved"
    assert workspace.files() == before


def test_approving_twice_reserves_once(workspace: Workspace) -> None:
    first, second = (workspace.cli(*workspace.approve("--format", "json")).envelope["data"] for _ in range(2))

    assert first["epsilon_after"] == second["epsilon_after"]
    assert first["outcome"] == "approved"
    assert second["outcome"].startswith("approved already")


def test_a_sweep_runs_every_combination_and_each_seed(workspace: Workspace) -> None:
    ended = workspace.cli(
        "simulate", "scenario.toml", "--out", "new-run", "--sweep", "plan.budget.epsilon=1/1,2/1", "--seeds", "2",
        "--format", "json",
    )  # fmt: skip

    data = ended.envelope["data"]
    assert ended.code == 0, ended.err
    assert [(run["plan.budget.epsilon"], run["plan.algorithm.seed"]) for run in data["runs"]] == [
        ("1/1", 4),
        ("1/1", 5),
        ("2/1", 4),
        ("2/1", 5),
    ]
    assert [run["epsilon"] for run in data["runs"]] == [1.0, 1.0, 2.0, 2.0]
    assert isinstance(data["cost_ratio_median"], float)
    assert len(list((workspace.folder / "new-run").glob("run-*/report.html"))) == 4


def test_the_environment_chooses_the_format_and_an_option_overrules_it(workspace: Workspace) -> None:
    assert workspace.cli("version", FEDSEG_FORMAT="json").envelope["status"] == "ok"
    assert workspace.cli("version", "--format", "text", FEDSEG_FORMAT="json").out.startswith("fedseg ")
    assert workspace.cli("explain", "E1", "--format", "text", FEDSEG_FORMAT="json").err.startswith("E201: ")


def test_a_settings_file_chooses_the_format_of_errors_too(workspace: Workspace) -> None:
    settings = workspace.write("settings.toml", '[explain]\nformat = "json"\n')

    ended = workspace.cli("--config", settings, "explain", "E1")
    named = workspace.cli("explain", "E1", FEDSEG_CONFIG=str(settings))
    overruled = workspace.cli("explain", "E1", FEDSEG_CONFIG=str(settings), FEDSEG_FORMAT="text")

    assert ended.envelope["error"]["code"] == named.envelope["error"]["code"] == "E201"
    assert overruled.err.startswith("E201: ")
