"""What a node's check says of each thing, and that its cure comes with it; what is exact stays apart, as LOCAL."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from fedseg.cli.main import run_command
from fedseg.deploy.checks import Finding, State, check_node
from fedseg.deploy.settings import NodeDeployment, NodeTerms, terms_of, write_terms
from fedseg.deploy.users import caller
from fedseg.node.home import LOCAL
from fedseg.plan import parse_plan
from tests.small_federation import NOW, SmallFederation, make_federation, policy_document


class Disk(NamedTuple):
    free: int


@pytest.fixture(scope="session")
def units(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("checks") / "units", {"north": 60, "south": 50})


@pytest.fixture
def deployment(units: SmallFederation, tmp_path: Path) -> NodeDeployment:
    """A node's directory around a unit's home; it has not joined."""
    shutil.copytree(units.path / "north", tmp_path / "unit")
    me = caller().name
    users = {"network_user": me, "data_user": me}
    terms = {"role": "node", "unit": "north", "unit_key": "k", "server": "seg.example:8443", **users}
    (tmp_path / "network").mkdir()
    write_terms(tmp_path, terms_of(NodeTerms, terms), caller())
    return NodeDeployment.open(tmp_path)


def found(deployment: NodeDeployment, units: SmallFederation | None = None) -> dict[str, Finding]:
    plan = None if units is None else parse_plan(units.document)
    return {one.name: one for one in check_node(deployment, plan, now=NOW)}


def test_a_unit_that_is_fine_is_said_to_be_and_its_counts_are_local(
    deployment: NodeDeployment, units: SmallFederation
) -> None:
    said = found(deployment, units)

    fine = ("ledger", "rights list", "data", "schema of small", "bounds of small", "cohort", "disk")
    assert {said[name].state for name in fine} <= {State.OK, State.WARN}
    assert {said[name].state for name in fine if name != "disk"} == {State.OK}
    assert said["schema of small"].local["customers"] == 60
    assert said["cohort"].local["allowed"] == 60
    assert not any("60" in one.says for one in said.values())


def test_every_failure_comes_with_its_cure(deployment: NodeDeployment) -> None:
    (deployment.home / "policy.yaml").unlink()
    said = found(deployment)

    assert said["policy"].error is not None
    assert said["policy"].error.code == "E301"
    assert all(one.fix for one in said.values() if one.state is not State.OK)
    assert "data" not in said, "without a policy no customer is read"


def test_before_it_has_joined_nobody_is_asked(deployment: NodeDeployment) -> None:
    said = found(deployment)

    assert said["joined"].state is State.FAIL
    assert {"network", "tls", "clock"}.isdisjoint(said)


def test_without_a_plan_the_bounds_are_left_open(deployment: NodeDeployment) -> None:
    assert found(deployment)["bounds"].state is State.WARN


def test_values_beyond_a_plans_bounds_are_a_warning(deployment: NodeDeployment, units: SmallFederation) -> None:
    customers = deployment.home / LOCAL / "customers.csv"
    customers.write_text(customers.read_text("utf-8") + "one-more,1000000,1\n", "utf-8")
    said = found(deployment, units)["bounds of small"]

    assert (said.state, dict(said.local)) == (State.WARN, {"visits": 1})


def test_a_column_that_a_plan_reads_and_nobody_has_is_a_failure(
    deployment: NodeDeployment, units: SmallFederation
) -> None:
    customers = deployment.home / LOCAL / "customers.csv"
    customers.write_text(customers.read_text("utf-8").replace("visits", "visit", 1), "utf-8")

    said = found(deployment, units)["schema of small"]
    assert said.error is not None
    assert said.error.code == "E802"


@pytest.mark.parametrize(("consenting", "name", "code"), [(0, "consent", "E501"), (3, "cohort", "E303")])
def test_too_few_consents_are_a_failure_without_a_number(
    consenting: int, name: str, code: str, deployment: NodeDeployment
) -> None:
    customers = deployment.home / LOCAL / "customers.csv"
    lines = customers.read_text("utf-8").splitlines(keepends=True)
    strangers = [line.replace("north", "nobody") for line in lines[1 + consenting :]]
    customers.write_text("".join([*lines[: 1 + consenting], *strangers]), "utf-8")

    said = found(deployment)[name]
    assert said.error is not None
    assert (said.state, said.error.code) == (State.FAIL, code)
    assert "3" not in said.says.replace("E303", "")


def test_a_policy_that_too_few_officers_have_signed_is_a_failure(deployment: NodeDeployment) -> None:
    from fedseg.ledger.keys import SigningKey

    key = SigningKey.generate().public.to_text()
    approvals = f'approvals:\n  officers:\n    ann: "{key}"\n  required: 1\n'
    (deployment.home / "policy.yaml").write_bytes(policy_document(approvals=approvals))

    assert found(deployment)["policy"].state is State.FAIL


def test_a_changed_ledger_and_a_lost_list_of_the_erased_are_failures(deployment: NodeDeployment) -> None:
    (deployment.home / LOCAL / "rights.db").unlink()
    (deployment.home / "ledger.db").write_bytes(b"something else")
    said = found(deployment)

    assert (said["ledger"].state, said["rights list"].state) == (State.FAIL, State.FAIL)


@pytest.mark.parametrize(
    ("free", "state"), [(50 * 2**20, State.FAIL), (500 * 2**20, State.WARN), (5 * 2**30, State.OK)]
)
def test_a_disk_that_runs_full_is_said_before_it_has(
    free: int, state: State, deployment: NodeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(free))
    assert found(deployment)["disk"].state is state


def test_looking_changes_nothing(deployment: NodeDeployment, units: SmallFederation) -> None:
    def all_bytes() -> dict[str, bytes]:
        return {str(one): one.read_bytes() for one in sorted(deployment.path.rglob("*")) if one.is_file()}

    before = all_bytes()
    found(deployment, units)
    assert all_bytes() == before


def test_consents_that_have_ended_do_not_count(deployment: NodeDeployment) -> None:
    later = {one.name: one for one in check_node(deployment, None, now=NOW + timedelta(days=40000))}
    assert later["consent"].state is State.FAIL


@pytest.fixture
def shown(deployment: NodeDeployment, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run_command(["node", "check", str(deployment.path)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_failure_is_printed_as_a_table_and_as_three_lines(shown: tuple[int, str, str]) -> None:
    code, out, err = shown
    assert code != 0
    assert "FAIL" in out
    assert len(err.splitlines()) == 3


def test_the_json_has_every_check_also_when_one_fails(
    deployment: NodeDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(["node", "check", str(deployment.path), "--format", "json"])
    said = json.loads(capsys.readouterr().out)

    assert (code, said["status"], said["data"]["ready"]) == (said["exit_code"], "error", False)
    assert {"name", "state", "says", "fix"} == set(said["data"]["checks"][0])
