"""`fedseg subject`: what a privacy officer does with requests, from their arrival to a certificate that anybody checks."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from tests.cli.conftest import Ended, Workspace


@pytest.fixture
def ids(workspace: Workspace) -> Path:
    return workspace.write("ids.txt", "north-7\n")


def subject(workspace: Workspace, command: str, *more: object) -> Ended:
    return workspace.cli.here("subject", command, *more, "--node", workspace.home())


def ask(workspace: Workspace, command: str, *more: object, ticket: str = "T-1") -> Ended:
    return subject(workspace, command, *more, "--id-file", "ids.txt", "--ticket", ticket)


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


def test_an_erasure_ends_with_a_certificate_that_an_auditor_believes(workspace: Workspace, ids: Path) -> None:
    home = NodeHome.open(workspace.home())
    done = ask(workspace, "erase", "--yes", "--format", "json")
    assert done.code == 0, done.err
    (request,) = done.envelope["data"]["requests"]
    assert (request["right"], request["status"]) == ("erasure", "fulfilled")
    assert f"{ids.name} still names them" in done.err
    early = subject(workspace, "certificate", request["request"], "--out", "c.json")
    assert (early.code, early.error[0][:5]) == (3, "E304:")
    log_days(home, datetime.now(UTC) + timedelta(days=1))
    written = subject(workspace, "certificate", request["request"][:8], "--out", "c.json")
    assert written.code == 0
    key = home.key.public.to_text()
    assert f"fedseg audit verify c.json --key north={key}" in written.out
    checked = workspace.cli.here("audit", "verify", "c.json", "--key", f"north={key}", "--format", "json")
    assert checked.code == 0, checked.err
    (found,) = checked.envelope["data"]["certificates"]
    assert (found["request"], found["held_against_ledger"]) == (request["request"], False)
    said = workspace.cli.here("audit", "verify", "c.json", "--key", f"north={key}").out
    assert "customers: rewritten without their rows" in said
    assert "that no other copy exists" in said
    assert subject(workspace, "certificate", request["request"], "--out", "c.json").code == 8


def test_a_certificate_is_held_against_the_ledger_in_a_bundle(workspace: Workspace, ids: Path) -> None:
    home = NodeHome.open(workspace.home())
    assert workspace.cli.here(*workspace.approve()).code == 0
    request = ask(workspace, "erase", "--yes", "--format", "json").envelope["data"]["requests"][0]["request"]
    log_days(home, datetime.now(UTC) + timedelta(days=1))
    subject(workspace, "certificate", request, "--out", "c.json")
    assert workspace.cli.here("audit", "bundle", "--from", workspace.home(), "--out", "unit.zip").code == 0
    checked = workspace.cli.here("audit", "verify", "unit.zip", "c.json", "--format", "json").envelope["data"]
    assert (checked["verified"], checked["certificates"][0]["held_against_ledger"]) == (True, True)
    text = (workspace.folder / "c.json").read_text("utf-8")
    workspace.write("bad.json", text.replace('"leaf":', '"leaf":1'))
    refused = workspace.cli.here("audit", "verify", "unit.zip", "bad.json")
    assert refused.code == 9
    assert "C3-unlogged  bad.json" in refused.out


def test_nobody_is_erased_without_a_yes(workspace: Workspace, ids: Path) -> None:
    before = workspace.files()
    asked = ask(workspace, "erase")
    assert (asked.code, asked.error[0]) == (2, "E201: nobody is here to confirm the erasure")
    checked = ask(workspace, "erase", "--dry-run")
    assert (checked.code, checked.out) == (0, "LOCAL: 1 people would be erased; nothing was\n")
    assert workspace.files() == before


def test_no_command_and_no_error_repeats_an_identifier(workspace: Workspace, ids: Path) -> None:
    answers = [ask(workspace, command) for command in ("object", "restrict", "opt-out", "limit")]
    answers += [ask(workspace, "erase", "--yes"), subject(workspace, "status", "--all"), subject(workspace, "sweep")]
    assert all(one.code == 0 for one in answers)
    assert not any("north-7" in one.out + one.err for one in answers)


def test_an_answer_is_a_private_file_that_is_never_written_over(workspace: Workspace, ids: Path) -> None:
    assert ask(workspace, "export", "--out", "answer.json").code == 0
    path = workspace.folder / "answer.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text("utf-8"))["rows"][0]["customer"] == "north-7"
    again = ask(workspace, "export", "--out", "answer.json", ticket="T-2")
    assert (again.code, again.error[0]) == (8, "E804: answer.json is there already")


def test_an_answer_that_could_not_be_written_is_still_owed(workspace: Workspace, ids: Path) -> None:
    lost = ask(workspace, "export", "--out", "nowhere/answer.json")
    assert (lost.code, lost.error[0]) == (8, "E804: nowhere/answer.json was not written")
    (owed,) = subject(workspace, "status", "--format", "json").envelope["data"]["requests"]
    assert owed["status"] == "in_progress"
    answered = ask(workspace, "export", "--out", "answer.json", "--format", "json").envelope["data"]["requests"]
    assert [(one["request"], one["status"]) for one in answered] == [(owed["request"], "fulfilled")]


def test_deadlines_are_listed_and_an_overdue_one_ends_a_daily_job(workspace: Workspace, ids: Path) -> None:
    assert subject(workspace, "status").out == "no request is open\n"
    ask(workspace, "receive", "access", "--received", days_ago(27), ticket="soon")
    ask(workspace, "receive", "erasure", ticket="later")
    listed = subject(workspace, "status")
    assert listed.code == 0
    assert [line.split()[-2] for line in listed.out.splitlines()] == ["ticket", "soon", "later"]
    assert "urgent" in listed.out.splitlines()[1]
    ask(workspace, "receive", "access", "--received", days_ago(40), ticket="late")
    late = subject(workspace, "status", "--format", "json")
    assert late.code == 3
    assert late.envelope["data"]["overdue"] == 1
    assert late.envelope["error"]["what"] == "1 of the requests is overdue"
    assert "OVERDUE" in subject(workspace, "status").err


def test_the_steps_of_a_request(workspace: Workspace, ids: Path) -> None:
    noted = ask(workspace, "receive", "erasure", "--received", days_ago(3), "--check-identity", "--format", "json")
    request = noted.envelope["data"]["requests"][0]
    assert request["days_left"] is None
    assert ask(workspace, "erase", "--yes").code == 3
    assert subject(workspace, "verified", request["request"]).code == 0
    longer = subject(workspace, "extend", request["request"], "--reason", "many requests", "--format", "json")
    assert longer.envelope["data"]["requests"][0]["due"] > request["due"]
    denied = subject(
        workspace, "deny", request["request"], "--reason", "no_match", "--explanation", "nobody of that name"
    )
    assert (denied.code, denied.out.splitlines()[0]) == (0, "denied")
    assert subject(workspace, "verified", request["request"]).code == 3


def test_a_file_without_identifiers_is_refused(workspace: Workspace) -> None:
    workspace.write("ids.txt", "\n")
    assert ask(workspace, "object").code == 8
    workspace.write("ids.txt", "a\na\n")
    assert ask(workspace, "object").code == 8


def test_a_unit_without_a_register_begins_one_when_somebody_says_that_nobody_was_erased(workspace: Workspace) -> None:
    (workspace.home() / "LOCAL/rights.db").unlink()
    lost = subject(workspace, "status")
    assert (lost.code, lost.error[0]) == (8, "E801: the register of requests is missing")
    assert "fedseg subject init" in lost.error[2]
    assert subject(workspace, "init").error[0] == "E201: nobody is here to say that nobody was ever erased"
    assert subject(workspace, "init", "--yes").out == "north: begun, and empty\n"
    assert subject(workspace, "status").out == "no request is open\n"
    assert subject(workspace, "init", "--yes").code == 8


def test_a_sweep_can_be_looked_at_first_and_says_what_went_by_which_rule(workspace: Workspace) -> None:
    home = NodeHome.open(workspace.home())
    looked = subject(workspace, "sweep", "--dry-run", "--format", "json").envelope["data"]
    assert (looked["outcome"], looked["record"], looked["days_logged"]) == ("checked, nothing removed", None, [])
    assert not (home.path / "LOCAL/sweeps").exists()
    swept = subject(workspace, "sweep", "--format", "json").envelope["data"]
    assert (swept["outcome"], swept["LOCAL"]["finished"]) == ("swept", [])
    assert {one["count"] for one in swept["LOCAL"]["ended"]} == {0}
    assert Path(swept["record"]).parent == home.path / "LOCAL/sweeps"
