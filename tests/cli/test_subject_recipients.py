"""`fedseg subject handed-over`, `notify` and `not-told`: what an officer sees of recipients, and when a daily job fails."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from fedseg.node.home import NodeHome
from tests.cli.conftest import Ended, Workspace
from tests.cli.test_subject import ask, days_ago, subject
from tests.https_endpoint import Endpoint, authority_and_pair, https_endpoint

RECIPIENTS = "recipients:\n  - {{id: mailer, kind: processor, endpoint: '{url}/rights'}}\n"
DEAD = "https://localhost:9"


@pytest.fixture
def mailer(workspace: Workspace) -> Generator[Endpoint]:
    _, certificate, key = authority_and_pair(workspace.folder, ["localhost"])
    with https_endpoint(certificate, key) as endpoint:
        yield endpoint


def hand_over(workspace: Workspace, url: str, *names: str) -> Ended:
    """Name the mailer in the policy, and record a list that it got."""
    policy = workspace.home() / "policy.yaml"
    policy.write_text(policy.read_text("utf-8") + RECIPIENTS.format(url=url), "utf-8")
    workspace.write("ids.txt", "north-7\n")
    workspace.write("list.csv", "customer,segment\n" + "".join(f"{one},2\n" for one in names or ("north-7", "north-8")))
    return subject(workspace, "handed-over", "--to", "mailer", "--file", "list.csv", "--column", "customer")


def notify(workspace: Workspace, *more: object) -> Ended:
    pems = ["--domain", "localhost", "--cert", "cert.pem", "--key", "key.pem", "--ca", "ca.pem"]
    return subject(workspace, "notify", *pems, *more)


def requests(ended: Ended) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ended.envelope["data"]["requests"]
    return found


def test_an_erasure_waits_for_its_recipients_and_is_done_once_they_have_answered(
    workspace: Workspace, mailer: Endpoint
) -> None:
    recorded = hand_over(workspace, mailer.url)
    assert (recorded.code, recorded.out.split(";")[1]) == (0, " LOCAL: 2 people\n")
    begun = ask(workspace, "erase", "--yes")
    assert begun.code == 0
    assert "erasure: in progress" in begun.out
    assert "recipients are still to be told, for 1 of them" in begun.err
    mailer.answers.append(500)
    failed = notify(workspace, "--format", "json")
    assert failed.code == 0, failed.err
    (notice,) = failed.envelope["data"]["notices"]
    assert (notice["recipient"], notice["status"], notice["problem"]) == ("mailer", "failed", "it answered 500")
    (waiting,) = requests(subject(workspace, "status", "--format", "json"))
    assert (waiting["status"], waiting["escalated"]) == ("in_progress", False)
    listed = subject(workspace, "status").out.splitlines()
    assert listed[-1].split()[1:4] == ["mailer", "failed", "1"]
    assert notify(workspace).out == "nothing is due\n"
    ended = subject(
        workspace,
        "not-told",
        str(waiting["request"])[:12],
        "--recipient",
        "mailer",
        "--because",
        "impossible",
        "--explanation",
        "the company is no more",
    )
    assert (ended.code, ended.out) == (0, "mailer: impossible; the request is fulfilled\n")
    (done,) = requests(subject(workspace, "status", "--all", "--format", "json"))
    told: dict[str, object] = done["recipients"][0]  # type: ignore[index]
    assert (told["status"], told["explanation"]) == ("impossible", "the company is no more")


def test_the_person_is_told_and_so_is_the_recipient(workspace: Workspace, mailer: Endpoint) -> None:
    hand_over(workspace, mailer.url)
    assert ask(workspace, "rectify").code == 0
    assert ask(workspace, "export", "--out", "answer.json").code == 0
    held = json.loads((workspace.folder / "answer.json").read_text("utf-8"))
    assert held["recipients"][0]["told"] == [{"right": "rectification", "status": "pending"}]
    assert notify(workspace).code == 0
    assert [one.content["subject_request_type"] for one in mailer.received] == ["rectification"]
    assert subject(workspace, "status").out == "no request is open\n"


@pytest.mark.parametrize("command", ["status", "sweep", "notify"])
def test_a_silent_recipient_ends_a_daily_job_before_the_answer_is_due(
    workspace: Workspace, mailer: Endpoint, command: str
) -> None:
    hand_over(workspace, DEAD)
    assert ask(workspace, "erase", "--yes", "--received", days_ago(20)).code == 0
    run = notify if command == "notify" else lambda one, *more: subject(one, command, *more)
    assert run(workspace).code == 0
    assert subject(workspace, "status").code == 0
    workspace.write("ids.txt", "north-8\n")
    assert ask(workspace, "erase", "--yes", "--received", days_ago(26), ticket="T-2").code == 0
    late = run(workspace, "--format", "json")
    assert late.code == 3
    assert "for 1 requests that are due within a week" in late.envelope["error"]["what"]
    assert "mailer is silent" in late.envelope["error"]["why"]
    assert late.envelope["data"]
    said = run(workspace)
    assert (said.code, said.out) == (3, "")
    assert "fedseg subject not-told" in said.error[2]
    (urgent,) = [
        one for one in subject(workspace, "status", "--format", "json").envelope["data"]["requests"] if one["urgent"]
    ]
    assert urgent["ticket"] == "T-2"


def test_who_is_told_of_nothing_cannot_be_exempted(workspace: Workspace, mailer: Endpoint) -> None:
    hand_over(workspace, mailer.url)
    (request,) = requests(ask(workspace, "receive", "erasure", "--format", "json"))
    reason = ["--because", "disproportionate", "--explanation", "so many"]
    refused = subject(workspace, "not-told", str(request["request"]), "--recipient", "mailer", *reason)
    assert (refused.code, refused.error[0][:5]) == (3, "E304:")


def test_an_officer_names_where_a_platform_may_be_told(workspace: Workspace) -> None:
    admitted = subject(workspace, "platform", "tool", "--callbacks", "https://Tool.example/ignored")
    assert admitted.code == 0
    listed = (workspace.home() / "LOCAL/platforms.toml").read_text("utf-8")
    assert 'callback_origin = "https://tool.example:443"' in listed
    assert subject(workspace, "platform", "tool", "--callbacks", "http://tool.example").code == 2


def test_no_command_names_anybody(workspace: Workspace, mailer: Endpoint) -> None:
    said = [
        hand_over(workspace, mailer.url),
        ask(workspace, "restrict"),
        notify(workspace),
        subject(workspace, "status"),
    ]
    assert all(one.code == 0 for one in said)
    assert not any("north-7" in one.out + one.err for one in said)
    with NodeHome.open(workspace.home()).rights() as rights:
        assert rights.requests()[0].request.status == "fulfilled"


def test_a_list_that_is_not_there_is_a_mistake_of_usage(workspace: Workspace) -> None:
    missing = subject(workspace, "handed-over", "--to", "mailer", "--file", Path("none.csv"), "--column", "customer")
    assert missing.code == 2
