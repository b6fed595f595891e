"""`fedseg governance export`: the files it writes about a unit, and what it refuses."""

import json
import stat
from typing import Any

import pytest

from fedseg.plan import parse_plan
from tests.cli.conftest import Workspace

NAMES = ["record.csv", "record.json", "dpia.json", "notice.md", "notice.html"]


def export(workspace: Workspace, *more: object) -> dict[str, Any]:
    ended = workspace.cli.here(
        "governance", "export", "--node", workspace.home(), "--out", "papers", *more, "--format", "json"
    )
    assert ended.code == 0, ended.err
    data: dict[str, Any] = ended.envelope["data"]
    return data


def test_all_documents_are_written_for_their_owner_alone(workspace: Workspace) -> None:
    data = export(workspace)
    assert [one["file"] for one in data["files"]] == [f"papers/{name}" for name in NAMES]
    assert sorted(path.name for path in (workspace.folder / "papers").iterdir()) == sorted(NAMES)
    assert {stat.S_IMODE((workspace.folder / one["file"]).stat().st_mode) for one in data["files"]} == {0o600}
    assert (data["unit"], data["policy_in_ledger"]) == ("north", False)


def test_the_blanks_that_are_counted_are_those_in_the_files(workspace: Workspace) -> None:
    for one in export(workspace)["files"]:
        text = (workspace.folder / one["file"]).read_text(encoding="utf-8")
        assert text.count("TO BE FILLED: ") == one["blanks"] > 0
        assert (one["left_empty"] > 0) == (one["kind"] == "dpia")


def test_nothing_of_a_customer_is_in_them_and_the_home_is_as_it_was(workspace: Workspace) -> None:
    before = {name: data for name, data in workspace.files().items() if name.startswith("federation")}
    export(workspace)
    after = workspace.files()
    assert {name: data for name, data in after.items() if name.startswith("federation")} == before
    assert "north-1," in (workspace.home() / "LOCAL" / "customers.csv").read_text(encoding="utf-8")
    assert not [name for name, data in after.items() if name.startswith("papers") and b"north-1" in data]


def test_only_what_is_asked_for_is_written(workspace: Workspace) -> None:
    assert {one["kind"] for one in export(workspace, "--kind", "notice")["files"]} == {"notice"}
    assert {one["kind"] for one in export(workspace, "--kind", "dpia", "--kind", "record")["files"]} == {
        "dpia",
        "record",
    }


def test_what_people_have_filled_in_is_never_written_over(workspace: Workspace) -> None:
    export(workspace, "--kind", "dpia")
    filled = workspace.write("papers/dpia.json", "filled in")
    again = workspace.cli.here("governance", "export", "--node", workspace.home(), "--out", "papers")
    assert (again.code, again.error[0].partition(":")[0]) == (8, "E804")
    assert filled.read_text(encoding="utf-8") == "filled in"
    assert [path.name for path in (workspace.folder / "papers").iterdir()] == ["dpia.json"]


def test_paperwork_that_cannot_all_be_written_is_not_written_at_all(workspace: Workspace) -> None:
    (workspace.folder / "papers").mkdir()
    (workspace.folder / "papers" / "notice.md").symlink_to("nowhere")
    ended = workspace.cli.here("governance", "export", "--node", workspace.home(), "--out", "papers")
    assert (ended.code, ended.error[0].partition(":")[0]) == (8, "E804")
    assert [path.name for path in (workspace.folder / "papers").iterdir()] == ["notice.md"]


def test_customers_are_told_of_approved_plans_only(workspace: Workspace) -> None:
    asked = ("governance", "export", "--node", workspace.home(), "--plan", workspace.plan, "--kind", "notice")
    refused = workspace.cli.here(*asked, "--out", "papers")
    assert (refused.code, refused.error[0].partition(":")[0]) == (7, "E703")
    assert not (workspace.folder / "papers").exists()

    assert workspace.cli.here(*workspace.approve()).code == 0
    assert workspace.cli.here(*asked, "--out", "papers").code == 0
    assert "visits a year" in (workspace.folder / "papers" / "notice.md").read_text(encoding="utf-8")

    digest = parse_plan(workspace.plan.read_bytes()).digest
    assert workspace.cli.here("revoke", digest, "--node", workspace.home()).code == 0
    assert workspace.cli.here(*asked, "--out", "later").code == 7


def test_a_plan_that_nothing_is_written_about_is_refused(workspace: Workspace) -> None:
    ended = workspace.cli.here(
        *("governance", "export", "--node", workspace.home(), "--out", "papers"),
        *("--plan", workspace.plan, "--kind", "record"),
    )
    assert (ended.code, ended.error[0].partition(":")[0]) == (2, "E201")


def test_the_text_counts_blanks_and_says_if_the_policy_is_not_in_force(workspace: Workspace) -> None:
    asked = ("governance", "export", "--node", workspace.home(), "--out")
    first = workspace.cli.here(*asked, "papers").out
    assert first.splitlines()[0].split() == ["file", "blanks", "left", "empty"]
    assert "this policy is not in the ledger yet" in first
    assert workspace.cli.here(*workspace.approve()).code == 0
    assert "not in the ledger" not in workspace.cli.here(*asked, "later").out
    record = json.loads((workspace.folder / "later" / "record.json").read_text(encoding="utf-8"))
    assert record["policy"]["in_ledger"] is True


@pytest.mark.parametrize("way", ["a file", "below a file"])
def test_a_folder_that_cannot_be_made_is_said(way: str, workspace: Workspace) -> None:
    workspace.write("taken", "")
    out = "taken" if way == "a file" else "taken/below"
    ended = workspace.cli.here("governance", "export", "--node", workspace.home(), "--out", out)
    assert (ended.code, ended.error[0].partition(":")[0]) == (8, "E804")
