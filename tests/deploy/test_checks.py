"""What a node's check says of each thing, and that its cure comes with it; what is exact stays apart, as LOCAL."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from fedseg.cli.main import run_command
from fedseg.deploy import checks
from fedseg.deploy.checks import Finding, State, check_home
from fedseg.deploy.settings import NodeDeployment, NodeTerms, terms_of, write_terms
from fedseg.deploy.users import caller
from fedseg.errors import FedsegError
from fedseg.node.home import LOCAL, NodeHome
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
    return {one.name: one for one in check_home(NodeHome.open(deployment.home), plan, now=NOW)}


def test_a_unit_that_is_fine_is_said_to_be_and_its_counts_are_local(
    deployment: NodeDeployment, units: SmallFederation
) -> None:
    said = found(deployment, units)

    fine = ("ledger", "rights list", "data", "schema of small", "bounds of small", "cohort")
    assert {said[name].state for name in fine} == {State.OK}
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
    (said,) = checks._server(deployment)

    assert (said.name, said.state) == ("joined", State.FAIL)


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
    assert checks._looked("disk", lambda: checks._disk(deployment)).state is state


def test_looking_changes_nothing(deployment: NodeDeployment, units: SmallFederation) -> None:
    def all_bytes() -> dict[str, bytes]:
        return {str(one): one.read_bytes() for one in sorted(deployment.path.rglob("*")) if one.is_file()}

    before = all_bytes()
    found(deployment, units)
    assert all_bytes() == before


def test_consents_that_have_ended_do_not_count(deployment: NodeDeployment) -> None:
    later_on = NOW + timedelta(days=40000)
    later = {one.name: one for one in check_home(NodeHome.open(deployment.home), None, now=later_on)}
    assert later["consent"].state is State.FAIL


def test_a_finding_is_the_same_on_the_other_side_of_a_process(
    deployment: NodeDeployment, units: SmallFederation
) -> None:
    (deployment.home / LOCAL / "rights.db").unlink()
    home, plan = NodeHome.open(deployment.home), parse_plan(units.document)
    here = [*check_home(home, plan, now=NOW)]
    there = checks._SAID.validate_json(checks._SAID.dump_json([checks._Said.of(one) for one in here]))

    assert [(one.name, one.state, one.says, one.fix, one.local) for one in there] == [
        (one.name, one.state, one.says, one.fix, dict(one.local)) for one in here
    ]
    failed = next(one for one in there if one.error is not None)
    assert failed.error is not None
    assert checks._raised(**failed.error).fix == failed.fix


@pytest.mark.deployment
def test_what_reads_customers_runs_as_the_data_user_without_a_network(
    deployment: NodeDeployment, units: SmallFederation, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {one.name: one for one in checks._as_the_data_user(deployment, units.document)}
    assert said["schema of small"].local["customers"] == 60

    (deployment.home / "node.toml").unlink()
    with pytest.raises(FedsegError):
        [*checks._as_the_data_user(deployment, None)]
    assert run_command(["node", "check", str(deployment.path), "--format", "json"]) != 0
    assert json.loads(capsys.readouterr().out)["status"] == "error"
