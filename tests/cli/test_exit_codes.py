"""Each way to fail ends with its documented exit code, in three lines or one envelope, and with nothing changed."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
import tomli_w

from fedseg.audit.faults import Fault
from fedseg.errors import every_error
from tests.cli.conftest import FEDSEG, Workspace
from tests.small_federation import customers_csv, names_of, plan_terms, policy_document

pytestmark = pytest.mark.processes

STAGES = ("preparing", "units check", "running", "verifying", "writing")
"""What progress lines begin with where stderr is no terminal."""

EXIT_CODES = {error.code: error.exit_code for error in every_error()}


@dataclass(frozen=True)
class Case:
    """A way to fail: what to arrange, the command that then fails, and with what."""

    code: str
    arrange: Callable[[Workspace], list[object]]

    @property
    def name(self) -> str:
        return self.arrange.__name__.replace("_", "-")


CASES: list[Case] = []


def ends_with(code: str) -> Callable[[Callable[[Workspace], list[object]]], Callable[[Workspace], list[object]]]:
    """Makes a case of a function that arranges a failure and returns the failing command."""

    def add(arrange: Callable[[Workspace], list[object]]) -> Callable[[Workspace], list[object]]:
        CASES.append(Case(code, arrange))
        return arrange

    return add


def replan(workspace: Workspace, **changes: object) -> None:
    """Change terms of the plan."""
    units = [{"name": one.name, "public_key": one.public_key} for one in workspace.federation.plan.units]
    workspace.plan.write_text(tomli_w.dumps(plan_terms(units, **changes)), encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def sql(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


# 2: how it was called, or a settings, plan or scenario file


@ends_with("E201")
def unknown_command(_: Workspace) -> list[object]:
    return ["segmentify"]


@ends_with("E201")
def unknown_command_of_a_group(_: Workspace) -> list[object]:
    return ["ledger", "forge"]


@ends_with("E201")
def unknown_option(workspace: Workspace) -> list[object]:
    return [*workspace.approve(), "--force"]


@ends_with("E201")
def missing_argument(_: Workspace) -> list[object]:
    return ["simulate"]


@ends_with("E201")
def option_without_its_value(workspace: Workspace) -> list[object]:
    return ["approve", workspace.plan, "--node"]


@ends_with("E201")
def value_that_is_no_choice(_: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--engine", "steam"]


@ends_with("E201")
def number_out_of_range(_: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--seeds", "0"]


@ends_with("E201")
def file_that_is_not_there(_: Workspace) -> list[object]:
    return ["plan", "show", "nowhere.toml"]


@ends_with("E201")
def directory_for_a_file(workspace: Workspace) -> list[object]:
    return ["plan", "check", workspace.folder]


@ends_with("E201")
def file_for_a_run(workspace: Workspace) -> list[object]:
    return ["report", workspace.plan]


@ends_with("E201")
def unknown_error_code(_: Workspace) -> list[object]:
    return ["explain", "E4711"]


@ends_with("E201")
def home_that_is_none(workspace: Workspace) -> list[object]:
    return ["approve", workspace.plan, "--node", workspace.folder, "--yes"]


@ends_with("E201")
def home_with_an_unknown_setting(workspace: Workspace) -> list[object]:
    edit(workspace.home() / "node.toml", "version = 1", "version = 1\nnoise = false")
    return workspace.approve()


@ends_with("E201")
def nobody_there_to_say_yes(workspace: Workspace) -> list[object]:
    return ["approve", workspace.plan, "--node", workspace.home()]


@ends_with("E201")
def settings_file_that_is_not_toml(workspace: Workspace) -> list[object]:
    workspace.write("fedseg.toml", "format = ")
    return ["version"]


@ends_with("E201")
def settings_file_that_is_not_there(_: Workspace) -> list[object]:
    return ["--config", "nowhere.toml", "version"]


@ends_with("E201")
def key_that_is_none(workspace: Workspace) -> list[object]:
    return ["ledger", "verify", workspace.run / "nodes/north/ledger.db", "--key", "key"]


@ends_with("E201")
def budget_of_a_server(workspace: Workspace) -> list[object]:
    return ["budget", "show", workspace.run / "server"]


@ends_with("E201")
def run_into_a_used_directory(workspace: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--out", workspace.run]


@ends_with("E201")
def resuming_what_was_never_prepared(workspace: Workspace) -> list[object]:
    (workspace.run / "plan.toml").unlink()
    return ["simulate", "scenario.toml", "--out", workspace.run, "--resume"]


@ends_with("E201")
def sweep_without_values(_: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--out", "new-run", "--sweep", "plan.k"]


@ends_with("E202")
def sweep_of_an_unknown_key(_: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--out", "new-run", "--sweep", "plan.clusters=2,3"]


@ends_with("E202")
def scenario_that_is_not_toml(workspace: Workspace) -> list[object]:
    return ["simulate", workspace.write("broken.toml", "version = \n= [["), "--out", "new-run"]


@ends_with("E202")
def scenario_that_is_not_text(workspace: Workspace) -> list[object]:
    return ["simulate", workspace.write("broken.toml", b"\xff\xfe\x00"), "--out", "new-run"]


@ends_with("E202")
def scenario_with_an_unknown_key(workspace: Workspace) -> list[object]:
    edit(workspace.folder / "scenario.toml", "version = 1", "version = 1\nfaith = true")
    return ["simulate", "scenario.toml", "--out", "new-run"]


@ends_with("E202")
def scenario_without_its_policy(workspace: Workspace) -> list[object]:
    (workspace.folder / "policy.yaml").unlink()
    return ["simulate", "scenario.toml", "--out", "new-run"]


@ends_with("E202")
def scenario_whose_units_overlap(workspace: Workspace) -> list[object]:
    edit(workspace.folder / "scenario.toml", "{ from = 50 }", "{ from = 10 }")
    return ["simulate", "scenario.toml", "--out", "new-run"]


@ends_with("E203")
def plan_that_is_not_toml(workspace: Workspace) -> list[object]:
    return ["plan", "check", workspace.write("broken.toml", "k = [1,\n")]


@ends_with("E203")
def plan_that_is_not_text(workspace: Workspace) -> list[object]:
    return ["plan", "show", workspace.write("broken.toml", bytes(range(256)))]


@ends_with("E203")
def plan_with_an_unknown_key(workspace: Workspace) -> list[object]:
    edit(workspace.plan, "k = 3", "k = 3\nnoise = false")
    return workspace.approve()


@ends_with("E203")
def plan_without_a_budget(workspace: Workspace) -> list[object]:
    replan(workspace, budget={})
    return workspace.approve()


# 3: the unit's policy


@ends_with("E301")
def plan_for_a_purpose_the_policy_does_not_name(workspace: Workspace) -> list[object]:
    replan(workspace, purpose="fedseg:SegmentActivation")
    return workspace.approve()


@ends_with("E301")
def plan_that_reads_a_column_the_policy_does_not_allow(workspace: Workspace) -> list[object]:
    (workspace.home() / "policy.yaml").write_bytes(policy_document(columns=["visits"]))
    return workspace.approve()


@ends_with("E301")
def unit_without_a_policy(workspace: Workspace) -> list[object]:
    (workspace.home() / "policy.yaml").unlink()
    return workspace.approve()


@ends_with("E302")
def unknown_policy_key(workspace: Workspace) -> list[object]:
    edit(workspace.home() / "policy.yaml", "default: deny", "default: deny\nexcept: [vip]")
    return workspace.approve()


@ends_with("E302")
def unknown_policy_key_when_checked(workspace: Workspace) -> list[object]:
    edit(workspace.folder / "policy.yaml", "default: deny", "default: deny\nexcept: [vip]")
    return ["policy", "check", "policy.yaml"]


@ends_with("E302")
def repeated_policy_key(workspace: Workspace) -> list[object]:
    edit(workspace.folder / "policy.yaml", "default: deny", "default: deny\ndefault: deny")
    return ["policy", "check", "policy.yaml"]


@ends_with("E302")
def policy_that_is_not_yaml(workspace: Workspace) -> list[object]:
    return ["policy", "check", workspace.write("broken.yaml", "a: [b\n: {\n")]


@ends_with("E302")
def policy_that_is_not_text(workspace: Workspace) -> list[object]:
    return ["policy", "check", workspace.write("broken.yaml", bytes(range(256)))]


@ends_with("E303")
def cohort_below_the_minimum(workspace: Workspace) -> list[object]:
    rows = [(name, (1, 2)) for name in names_of("north", 4)]
    workspace.federation.customers_file("north").write_bytes(customers_csv(rows))
    return workspace.approve()


# 4: privacy budget


@ends_with("E401")
def plan_over_the_policys_budget(workspace: Workspace) -> list[object]:
    (workspace.home() / "policy.yaml").write_bytes(policy_document(rho_cap="1/100"))
    return workspace.approve()


@ends_with("E401")
def plan_over_what_earlier_plans_left(workspace: Workspace) -> list[object]:
    cost = sum(workspace.federation.plan.step_rhos)
    cap = Fraction(cost * 3 / 2).limit_denominator(1000)
    (workspace.home() / "policy.yaml").write_bytes(policy_document(rho_cap=f"{cap.numerator}/{cap.denominator}"))
    assert workspace.cli.here(*workspace.approve()).code == 0
    replan(workspace, name="second")
    return workspace.approve()


# 5: consent


@ends_with("E501")
def nobody_consented(workspace: Workspace) -> list[object]:
    rows = [(f"stranger-{number}", (1, 2)) for number in range(50)]
    workspace.federation.customers_file("north").write_bytes(customers_csv(rows))
    return workspace.approve()


@ends_with("E501")
def customers_file_with_a_header_only(workspace: Workspace) -> list[object]:
    workspace.federation.customers_file("north").write_bytes(customers_csv([]))
    return workspace.approve()


# 7: identity, signature, approval


@ends_with("E701")
def plan_without_this_unit(workspace: Workspace) -> list[object]:
    edit(workspace.plan, '"north"', '"east"')
    return workspace.approve()


@ends_with("E701")
def plan_with_another_key_for_this_unit(workspace: Workspace) -> list[object]:
    (workspace.home() / "LOCAL/keys/unit.key").unlink()
    shutil.copy(workspace.home("south") / "LOCAL/keys/unit.key", workspace.home() / "LOCAL/keys/unit.key")
    return workspace.approve()


@ends_with("E702")
def plan_that_is_not_the_agreed_one(workspace: Workspace) -> list[object]:
    return workspace.approve("--id", "0" * 64)


@ends_with("E702")
def plan_edited_after_it_was_approved(workspace: Workspace) -> list[object]:
    edit(workspace.run / "plan.toml", "min_segment_size = 1", "min_segment_size = 2")
    return ["simulate", "scenario.toml", "--out", workspace.run, "--resume"]


@ends_with("E705")
def plan_with_a_trust_model_that_is_not_there_yet(workspace: Workspace) -> list[object]:
    replan(workspace, trust="secure-aggregation")
    return workspace.approve()


@ends_with("E706")
def key_that_others_can_read(workspace: Workspace) -> list[object]:
    (workspace.home() / "LOCAL/keys/unit.key").chmod(0o644)
    return workspace.approve()


@ends_with("E706")
def key_that_is_missing(workspace: Workspace) -> list[object]:
    (workspace.home() / "LOCAL/keys/unit.key").unlink()
    return workspace.approve()


# 8: data and storage


@ends_with("E802")
def missing_column(workspace: Workspace) -> list[object]:
    edit(workspace.federation.customers_file("north"), "customer,visits,spend", "customer,visits,spending")
    return workspace.approve()


@ends_with("E802")
def missing_column_of_identifiers(workspace: Workspace) -> list[object]:
    edit(workspace.federation.customers_file("north"), "customer,visits", "client,visits")
    return workspace.approve()


@ends_with("E802")
def customers_file_that_is_empty(workspace: Workspace) -> list[object]:
    workspace.federation.customers_file("north").write_bytes(b"")
    return workspace.approve()


@ends_with("E803")
def text_in_a_numeric_column(workspace: Workspace) -> list[object]:
    rows = [(name, (1, "lots")) for name in names_of("north", 60)]
    workspace.federation.customers_file("north").write_bytes(customers_csv(rows))
    return workspace.approve()


@ends_with("E801")
def missing_customers_file(workspace: Workspace) -> list[object]:
    workspace.federation.customers_file("north").unlink()
    return workspace.approve()


@ends_with("E801")
def missing_register(workspace: Workspace) -> list[object]:
    (workspace.home() / "LOCAL/register.db").unlink()
    return workspace.approve()


@ends_with("E801")
def damaged_register(workspace: Workspace) -> list[object]:
    (workspace.home() / "LOCAL/register.db").write_bytes(b"no register" * 100)
    return workspace.approve()


@ends_with("E804")
def output_where_nothing_can_be_written(_: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--out", "/proc/new-run"]


@ends_with("E804")
def file_for_an_output_directory(workspace: Workspace) -> list[object]:
    return ["simulate", "scenario.toml", "--out", workspace.plan]


@ends_with("E804")
def export_into_a_directory(workspace: Workspace) -> list[object]:
    return ["ledger", "export", workspace.run / "nodes/north/ledger.db", "--out", workspace.folder]


# 9: verification


@ends_with("E902")
def ledger_that_is_text(workspace: Workspace) -> list[object]:
    return ["ledger", "verify", workspace.plan]


@ends_with("E902")
def ledger_that_is_empty(workspace: Workspace) -> list[object]:
    return ["ledger", "verify", workspace.write("empty.db", b"")]


@ends_with("E902")
def ledger_that_was_cut_off(workspace: Workspace) -> list[object]:
    whole = (workspace.run / "nodes/north/ledger.db").read_bytes()
    return ["ledger", "verify", workspace.write("cut.db", whole[: len(whole) // 2])]


@ends_with("E902")
def ledger_that_is_another_database(workspace: Workspace) -> list[object]:
    return ["ledger", "verify", sql(workspace.folder / "foreign.db", "CREATE TABLE leaf (seq, entry)")]


@ends_with("E902")
def directory_without_a_ledger(workspace: Workspace) -> list[object]:
    return ["ledger", "verify", workspace.run]


@ends_with("E902")
def budget_of_a_directory_without_a_ledger(workspace: Workspace) -> list[object]:
    return ["budget", "show", workspace.folder]


@ends_with("E901")
def ledger_of_another_key(workspace: Workspace) -> list[object]:
    key = workspace.federation.plan.units[0].public_key
    return ["ledger", "verify", workspace.run / "nodes/north/ledger.db", "--key", key]


@ends_with("E901")
def unit_whose_ledger_was_tampered_with(workspace: Workspace) -> list[object]:
    assert workspace.cli.here(*workspace.approve()).code == 0
    sql(workspace.home() / "ledger.db", "DELETE FROM leaf WHERE seq = (SELECT max(seq) FROM leaf)")
    return workspace.approve()


@ends_with("E901")
def segments_that_were_edited(workspace: Workspace) -> list[object]:
    edit(workspace.run / "segmentation.json", '"rounds":3', '"rounds":4')
    return ["segments", "show", workspace.run]


@ends_with("E901")
def segments_that_are_none(workspace: Workspace) -> list[object]:
    return ["segments", "show", workspace.plan]


@ends_with("E201")
def segments_of_a_directory_without_any(workspace: Workspace) -> list[object]:
    return ["segments", "show", workspace.folder]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_failure_ends_in_three_lines_its_exit_code_and_nothing_changed(case: Case, workspace: Workspace) -> None:
    command = case.arrange(workspace)
    before = workspace.files()

    ended = workspace.cli(*command)

    assert ended.code == EXIT_CODES[case.code], ended.err
    assert ended.out == ""
    what, why, fix = ended.error
    assert what.startswith(f"{case.code}: ")
    assert (why[:5], fix[:5]) == ("why: ", "fix: ")
    assert all(line.startswith(STAGES) for line in ended.err.splitlines()[:-3])
    assert workspace.files() == before

    asked = workspace.cli.here(*command, FEDSEG_FORMAT="json")

    assert asked.code == ended.code
    assert asked.envelope["status"] == "error"
    assert asked.envelope["exit_code"] == ended.code
    assert asked.envelope["error"] == {
        "code": case.code,
        "what": what.removeprefix(f"{case.code}: "),
        "why": why.removeprefix("why: "),
        "fix": fix.removeprefix("fix: "),
    }
    assert all(line.startswith(STAGES) for line in asked.err.splitlines())
    assert workspace.files() == before


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE leaf SET entry = CAST(replace(CAST(entry AS TEXT), 'unit', 'UNIT') AS BLOB) WHERE seq = 0",
        "UPDATE leaf SET entry = CAST(entry || ' ' AS BLOB) WHERE seq = 1",
        "UPDATE leaf SET entry = CAST(replace(CAST(entry AS TEXT), '1', '2') AS BLOB) WHERE seq = 3",
        "UPDATE leaf SET seq = seq + 100 WHERE seq = 2",
        "DELETE FROM leaf WHERE seq = (SELECT max(seq) FROM leaf)",
        "DELETE FROM leaf WHERE seq = 1",
        "INSERT INTO leaf SELECT max(seq) + 1, entry FROM leaf",
        "UPDATE payload SET data = CAST(substr(data, 2) || 'x' AS BLOB) WHERE id LIKE 'release:%'",
        "UPDATE payload SET id = id || 'x' WHERE id LIKE 'plan:%'",
        "DELETE FROM payload WHERE id LIKE 'policy:%'",
        "INSERT INTO payload VALUES ('more', x'00')",
        "UPDATE checkpoint SET note = replace(note, 'fedseg', 'Fedseg')",
        "UPDATE checkpoint SET size = size + 1 WHERE size = (SELECT max(size) FROM checkpoint)",
        "DELETE FROM checkpoint",
        "CREATE TABLE more (a)",
        "CREATE VIEW more AS SELECT * FROM leaf",
        "CREATE TRIGGER more AFTER INSERT ON leaf BEGIN SELECT 1; END",
        "DROP TABLE payload",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 7",
    ],
)
def test_a_tampered_ledger_is_found_and_the_command_says_so(tampering: str, workspace: Workspace) -> None:
    ledger = workspace.run / "nodes/north/ledger.db"
    assert workspace.cli.here("ledger", "verify", ledger).code == 0
    sql(ledger, tampering)
    before = workspace.files()

    ended = workspace.cli.here("ledger", "verify", ledger, "--format", "json")

    assert ended.code == 9
    assert ended.envelope["error"]["code"] in ("E901", "E902")
    assert ended.envelope["data"]["verified"] is False
    assert [one["code"] for one in ended.envelope["data"]["failures"]] == [ended.envelope["data"]["fault"]]
    assert ended.envelope["data"]["fault"] in [fault.code for fault in Fault]
    assert workspace.files() == before


def test_any_flipped_byte_of_an_export_is_found(workspace: Workspace) -> None:
    assert workspace.cli.here("ledger", "export", workspace.run / "server/ledger.db", "--out", "export.txt").code == 0
    assert workspace.cli.here("ledger", "verify", "export.txt").code == 0
    whole = (workspace.folder / "export.txt").read_bytes()
    for place in range(0, len(whole), len(whole) // 12):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert workspace.cli.here("ledger", "verify", workspace.write("changed.txt", bytes(changed))).code == 9


def test_a_policy_that_says_no_shows_every_rule_and_exits_with_3(workspace: Workspace) -> None:
    policy = workspace.write("narrow.yaml", policy_document(columns=["visits"]))

    ended = workspace.cli("policy", "test", policy, "--plan", workspace.plan)
    asked = workspace.cli("policy", "test", policy, "--plan", workspace.plan, "--format", "json")

    assert (ended.code, asked.code) == (3, 3)
    assert re.search(r"columns\.allow +NO +not allowed: spend", ended.out)
    assert len(ended.err.splitlines()) == 3
    assert asked.envelope["data"]["allowed"] is False
    assert [one["rule"] for one in asked.envelope["data"]["rules"] if not one["allowed"]] == [
        "purposes.fedseg:SegmentStatistics.columns.allow"
    ]


def test_a_file_that_may_not_be_read_is_a_usage_error(workspace: Workspace) -> None:
    workspace.plan.chmod(0)
    # In a user namespace without any user in it, not even root may read what its owner may not.
    command = ["unshare", "--user", str(FEDSEG), "plan", "check", str(workspace.plan)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=workspace.folder)

    assert ended.returncode == 2, ended.stderr
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == ["E201", "why", "fix"]


@pytest.mark.parametrize(
    "cells",
    [("nan", "NaN"), ("inf", "-inf"), ("", ""), ("1e308", "-1e308"), (" 7 ", "+.5")],
    ids=["nan", "infinite", "missing", "huge", "odd"],
)
def test_rows_that_are_odd_are_no_errors(cells: tuple[str, str], workspace: Workspace) -> None:
    rows = [(name, cells if number % 2 else (5, 5)) for number, name in enumerate(names_of("north", 60))]
    workspace.federation.customers_file("north").write_bytes(customers_csv(rows))

    ended = workspace.cli(*workspace.approve())

    assert ended.code == 0, ended.err


def test_customers_with_several_rows_are_no_error(workspace: Workspace) -> None:
    rows = [(name, (number, 5)) for number, name in enumerate(names_of("north", 60) * 3)]
    workspace.federation.customers_file("north").write_bytes(customers_csv(rows))

    ended = workspace.cli(*workspace.approve("--format", "json"))

    assert ended.code == 0, ended.err
    assert ended.envelope["data"]["LOCAL"]["duplicates"] == 120


def test_debug_shows_the_traceback_and_then_the_same_three_lines(workspace: Workspace) -> None:
    plain = workspace.cli("plan", "check", "scenario.toml")
    debug = workspace.cli("--debug", "plan", "check", "scenario.toml")

    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.error == plain.error
    assert debug.code == plain.code == 2


def test_every_code_can_be_explained_and_names_its_exit_code(workspace: Workspace) -> None:
    for code, exit_code in EXIT_CODES.items():
        explained = workspace.cli.here("explain", code.lower())
        assert (explained.code, f"(exit {exit_code})" in explained.out) == (0, True)
