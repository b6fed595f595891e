"""Officers at the command line: keys, signed policies, the inbox, and what happens to a plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedseg.plan import parse_plan
from tests.cli.conftest import Ended, Workspace
from tests.small_federation import policy_document


class Desk:
    """Two officers and a requester before the inbox of a unit whose policy asks for both officers."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.digest = parse_plan(workspace.plan.read_bytes()).digest
        self.keys = {name: self.data("key", "new", f"{name}.key")["public_key"] for name in ("ann", "bob", "mk")}

    def policy(self, required: int, more: str = "") -> None:
        officers = "".join(f"    {name}: '{self.keys[name]}'\n" for name in ("ann", "bob"))
        approvals = f"approvals:\n  officers:\n{officers}  required: {required}\n{more}"
        (self.workspace.home() / "policy.yaml").write_bytes(policy_document(approvals=approvals))

    def run(self, *arguments: object) -> Ended:
        return self.workspace.cli.here(*arguments)

    def at(self, *arguments: object, officer: str | None = None) -> Ended:
        """A command at the unit's home, perhaps by an officer."""
        proof = () if officer is None else ("--officer", officer, "--officer-key", f"{officer}.key")
        return self.run(*arguments, "--node", self.workspace.home(), *proof)

    def sign_policy(self, *names: str) -> None:
        for name in names:
            proof = ("--officer", name, "--officer-key", f"{name}.key")
            self.data("policy", "sign", self.workspace.home() / "policy.yaml", *proof)

    def data(self, *arguments: object) -> dict[str, Any]:
        ended = self.run(*arguments, "--format", "json")
        assert ended.code == 0, ended.err
        data: dict[str, Any] = ended.envelope["data"]
        return data

    def waiting(self) -> list[dict[str, Any]]:
        waiting: list[dict[str, Any]] = self.data("inbox", "--node", self.workspace.home())["waiting"]
        return waiting


@pytest.fixture
def desk(workspace: Workspace) -> Desk:
    return Desk(workspace)


def test_a_plan_goes_from_the_inbox_through_both_officers_into_the_ledger(desk: Desk) -> None:
    desk.policy(required=2)
    desk.sign_policy("ann", "bob")
    assert desk.at("inbox", "add", desk.workspace.plan).code == 0
    assert [(one["plan_sha256"], one["approving"], one["required"]) for one in desk.waiting()] == [(desk.digest, [], 2)]

    first = desk.at("approve", desk.digest[:8], "--yes", officer="ann")
    assert first.out.endswith("noted; waits for 1 more officers\n")
    assert desk.waiting()[0]["approving"] == ["ann"]
    second = desk.at("approve", desk.digest[:8], "--yes", officer="bob")
    assert second.out.endswith("approved\n")
    assert desk.waiting() == []
    assert desk.at("inbox").out == "nothing waits\n"
    assert desk.run("ledger", "verify", desk.workspace.home() / "ledger.db").code == 0


def test_revoking_gives_the_budget_back_and_cannot_be_done_twice(desk: Desk) -> None:
    desk.policy(required=1)
    desk.sign_policy("ann")
    desk.at("approve", desk.workspace.plan, "--yes", officer="ann")
    home = desk.workspace.home()
    assert desk.data("budget", "show", home)["rho_reserved"] > 0
    assert desk.at("revoke", desk.digest[:8]).code == 7
    assert desk.at("revoke", desk.digest[:8], officer="bob").out.startswith("revoked; rho ")
    assert desk.data("budget", "show", home)["rho_reserved"] == 0
    assert desk.at("revoke", desk.digest[:8], officer="bob").error[0].startswith("E703: ")
    assert desk.at("approve", desk.workspace.plan, "--yes", officer="ann").error[0].startswith("E703: ")


def test_a_refused_plan_still_waits_and_says_so(desk: Desk) -> None:
    desk.policy(required=1)
    desk.sign_policy("ann")
    desk.at("inbox", "add", desk.workspace.plan)
    denied = desk.at("deny", desk.digest[:8], "--reason", "not ours", officer="ann")
    assert denied.out.startswith("small: denied")
    assert [one["refused"] for one in desk.waiting()] == [True]


def test_a_requesters_plan_within_its_terms_is_approved_as_it_comes_in(desk: Desk) -> None:
    terms = (
        f"  requesters:\n    marketing:\n      public_key: '{desk.keys['mk']}'\n"
        '      automatic: {rho_per_plan: "4/1", rho_per_period: "4/1", period_days: 30}\n'
    )
    desk.policy(required=2, more=terms)
    desk.sign_policy("ann", "bob")
    unsigned = desk.at("inbox", "add", desk.workspace.plan)
    assert "waits for a decision" in unsigned.out
    assert desk.run("plan", "sign", desk.workspace.plan, "--key", "mk.key").code == 0
    signed = desk.at("inbox", "add", desk.workspace.plan)
    assert "approved, within the policy's terms" in signed.out
    assert desk.waiting() == []


def test_a_waiting_plan_is_shown_in_full_before_anything_is_reserved(desk: Desk) -> None:
    desk.at("inbox", "add", desk.workspace.plan)
    shown = desk.at("inbox", "show", desk.digest[:8])
    assert "3 segments for fedseg:SegmentStatistics" in shown.out
    assert "LOCAL:  allowed" in shown.out
    assert desk.data("budget", "show", desk.workspace.home())["rho_reserved"] == 0


def unsigned_policy(desk: Desk) -> Ended:
    desk.policy(required=2)
    desk.sign_policy("ann")
    return desk.at("approve", desk.workspace.plan, "--yes", officer="ann")


def nobody(desk: Desk) -> Ended:
    desk.policy(required=1)
    desk.sign_policy("ann")
    return desk.at("approve", desk.workspace.plan, "--yes")


def somebody_elses_key(desk: Desk) -> Ended:
    desk.policy(required=1)
    desk.sign_policy("ann")
    return desk.at("approve", desk.workspace.plan, "--yes", "--officer", "ann", "--officer-key", "bob.key")


def half_an_officer(desk: Desk) -> Ended:
    return desk.at("approve", desk.workspace.plan, "--yes", "--officer", "ann")


def another_key_under_a_policy(desk: Desk) -> Ended:
    desk.policy(required=1)
    policy = desk.workspace.home() / "policy.yaml"
    return desk.run("policy", "sign", policy, "--officer", "ann", "--officer-key", "bob.key")


def a_changed_plan_under_a_signature(desk: Desk) -> Ended:
    desk.run("plan", "sign", desk.workspace.plan, "--key", "mk.key")
    desk.workspace.plan.write_bytes(desk.workspace.plan.read_bytes().replace(b"k = 3", b"k = 4"))
    return desk.at("inbox", "add", desk.workspace.plan)


def an_id_of_nothing(desk: Desk) -> Ended:
    return desk.at("deny", "00000000", "--reason", "none")


def an_id_too_short(desk: Desk) -> Ended:
    desk.at("inbox", "add", desk.workspace.plan)
    return desk.at("inbox", "show", desk.digest[:2])


def no_home(desk: Desk) -> Ended:
    return desk.run("inbox")


def no_plan(desk: Desk) -> Ended:
    return desk.at("inbox", "add", desk.workspace.write("letter.toml", "Dear officer"))


def a_key_file_that_is_there(desk: Desk) -> Ended:
    return desk.run("key", "new", "ann.key")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (unsigned_policy, "E301"),
        (nobody, "E703"),
        (somebody_elses_key, "E701"),
        (half_an_officer, "E201"),
        (another_key_under_a_policy, "E701"),
        (a_changed_plan_under_a_signature, "E701"),
        (an_id_of_nothing, "E703"),
        (an_id_too_short, "E703"),
        (no_home, "E201"),
        (no_plan, "E203"),
        (a_key_file_that_is_there, "E706"),
    ],
)
def test_what_goes_wrong_is_said_in_three_lines_and_nothing_is_approved(
    desk: Desk, wrong: Callable[[Desk], Ended], code: str
) -> None:
    ended = wrong(desk)
    assert len(ended.error) == 3
    assert ended.error[0].startswith(f"{code}: ")
    with desk.workspace.federation.home("north").ledger() as ledger:
        assert "approval" not in [entry.kind for entry in ledger.entries()]


def test_a_full_inbox_takes_no_more_and_a_damaged_file_in_it_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.at("inbox", "add", desk.workspace.plan)
    (desk.workspace.home() / "inbox/damaged.toml").write_text("k = ")
    assert "DAMAGED  damaged.toml" in desk.at("inbox").out
    monkeypatch.setattr("fedseg.node.inbox.PLANS_MAX", 2)
    other = desk.workspace.write("other.toml", desk.workspace.plan.read_bytes().replace(b'"small"', b'"other"'))
    assert desk.at("inbox", "add", other).error[0] == "E804: the inbox is full"
    assert desk.at("inbox", "add", desk.workspace.plan).code == 0


def test_a_key_file_is_for_its_owner_alone(desk: Desk) -> None:
    path: Path = desk.workspace.folder / "ann.key"
    assert path.stat().st_mode & 0o077 == 0
    assert (
        json.loads(desk.run("key", "show", "ann.key", "--format", "json").out)["data"]["public_key"] == desk.keys["ann"]
    )


def test_a_preview_says_what_a_plan_costs_and_whether_it_fits_and_reserves_nothing(desk: Desk) -> None:
    home = desk.workspace.home()
    before = desk.data("budget", "preview", desk.workspace.plan, "--node", home)
    assert (before["fits"], before["already_approved"], before["epsilon_before"]) == (True, False, 0.0)
    assert 0 < before["epsilon_after"] <= before["epsilon_at_cap"]
    assert desk.data("budget", "show", home)["rho_reserved"] == 0
    desk.at("approve", desk.workspace.plan, "--yes")
    after = desk.data("budget", "preview", desk.workspace.plan, "--node", home)
    assert after["already_approved"]
    assert after["epsilon_before"] == after["epsilon_after"] == before["epsilon_after"]
    (home / "policy.yaml").write_bytes(policy_document(rho_cap="1/1000"))
    other = desk.workspace.write("other.toml", desk.workspace.plan.read_bytes().replace(b'"small"', b'"other"'))
    refused = desk.at("budget", "preview", other)
    assert refused.code == 0
    assert "NO: " in refused.out


def test_the_history_lists_what_changed_the_budget_in_order(desk: Desk) -> None:
    home = desk.workspace.home()
    assert desk.run("budget", "history", home).out == "north: nothing yet\n"
    desk.at("approve", desk.workspace.plan, "--yes")
    desk.at("revoke", desk.digest)
    history = desk.data("budget", "history", home)["history"]
    assert [one["kind"] for one in history] == ["policy", "approval", "closing"]
    assert [one["rho_reserved"] > 0 for one in history] == [False, True, False]
    assert desk.run("budget", "history", home).out.splitlines()[1].split()[:3] == ["entry", "day", "what"]
