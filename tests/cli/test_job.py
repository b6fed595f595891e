"""`fedseg job`: what it says of a plan on its way from the queue to its segments, and how it ends when the job does."""

import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.deploy.server import init
from fedseg.deploy.users import caller
from fedseg.federation.coordinator import turn
from fedseg.server.home import ServerHome
from fedseg.server.job import JobState
from fedseg.server.jobs import JobStore
from fedseg.server.roster import rules_of
from tests.cli.conftest import Cli, Ended
from tests.small_federation import SmallFederation, make_federation, plan_terms
from tests.small_link import SmallLink

pytestmark = [
    pytest.mark.processes,
    # httpcore leaves it to the garbage collector to close a Unix socket that nobody listens on.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"),
]


@dataclass(frozen=True)
class Scene:
    """A server's directory whose processes do not run, a federation that has approved a plan, and the plan's file."""

    cli: Cli
    federation: SmallFederation
    server: Path
    plan: Path
    link: SmallLink

    @property
    def jobs(self) -> JobStore:
        return JobStore.open(self.server / "jobs")

    def job(self, verb: str, *arguments: object, code: int = 0) -> dict[str, Any]:
        """What a command answers in JSON."""
        ended = self.run(verb, *arguments, "--format", "json")
        assert ended.code == code, ended.out + ended.err
        return ended.envelope

    def run(self, verb: str, *arguments: object) -> Ended:
        return self.cli.here("job", verb, *arguments, FEDSEG_SERVER=str(self.server))

    def submit(self) -> str:
        name: str = self.job("submit", self.plan)["data"]["id"]
        return name

    def work(self) -> None:
        """One turn of the coordinator."""
        turn(ServerHome.open(self.server / "server"), self.jobs, self.link.connect, lambda _: True)

    @contextmanager
    def coordinator(self) -> Generator[None]:
        """A coordinator that attends to the jobs, and does nothing until the block has ended."""
        with self.jobs.attend():
            yield


@pytest.fixture(scope="session")
def approved(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("job") / "units", {"north": 60, "south": 50}).approve_all()


@pytest.fixture
def scene(approved: SmallFederation, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tmp_path = tmp_path_factory.mktemp("job")  # named after a test, a folder is too deep for a server's sockets
    federation = approved.copied_to(tmp_path / "units")
    cli, plan = Cli(tmp_path), tmp_path / "plan.toml"
    plan.write_bytes(federation.document)
    rules, me = rules_of({}, single_operator=True), caller()
    listen = "127.0.0.1:8443"
    init(tmp_path / "server", hosts=["127.0.0.1"], listen=listen, server=me, proxy_user=me, rules=rules)
    return Scene(cli, federation, tmp_path / "server", plan, SmallLink(federation))


def other_plan(scene: Scene, **changes: object) -> Path:
    units = [{"name": unit.name, "public_key": unit.public_key} for unit in scene.federation.plan.units]
    path = scene.plan.with_name("other.toml")
    path.write_text(tomli_w.dumps(plan_terms(units, name="other", **changes)), encoding="utf-8")
    return path


def test_a_dry_run_says_what_the_plan_means_and_submits_nothing(scene: Scene) -> None:
    data = scene.job("submit", scene.plan, "--dry-run")["data"]

    plan = scene.federation.plan
    assert data["outcome"] == "checked, nothing submitted"
    assert (data["id"], data["plan_sha256"]) == (f"small-{plan.digest[:12]}", plan.digest)
    assert (data["rounds"], data["epsilon"], data["quorum"]) == (3, 4.0, 1)
    assert data["units"] == [{"unit": unit, "registered": None, "online": None} for unit in ("north", "south")]
    assert data["largest_body_bytes"] > 300
    assert data["server_running"] is False
    assert scene.jobs.ids() == []
    assert "unknown" in scene.run("submit", scene.plan, "--dry-run").out


def test_submitting_queues_the_plan_lets_its_replies_through_and_says_that_nothing_runs(scene: Scene) -> None:
    limits = scene.server / "proxy" / "limits.conf"
    large = other_plan(scene, k=512, features=[many(number) for number in range(40)])
    before = limits.read_text(encoding="utf-8")

    said = scene.run("submit", large)

    assert said.code == 0, said.err
    assert said.out.startswith("queued: other-")
    assert f"fedseg server start {scene.server}" in said.err
    assert [job.state for job in scene.jobs.jobs()] == [JobState.QUEUED]
    assert allowed(limits.read_text(encoding="utf-8")) > allowed(before)


def many(number: int) -> dict[str, object]:
    return {"name": f"f{number}", "label": f"feature {number}", "lower": 0, "upper": 1, "missing": 0}


def allowed(limits: str) -> int:
    return int(limits.split()[1].removesuffix(";"))


def test_submitting_twice_changes_nothing_and_a_cancelled_job_is_queued_again(scene: Scene) -> None:
    name = scene.submit()
    again = scene.job("submit", scene.plan)["data"]
    assert (again["id"], again["outcome"]) == (name, "queued already, so nothing has changed")

    assert scene.job("cancel", name)["data"]["outcome"] == "cancelled"
    assert scene.job("cancel", name)["data"]["outcome"] == "cancelled already, so nothing has changed"
    assert scene.job("submit", scene.plan)["data"]["outcome"] == "queued again"


def test_a_job_can_be_followed_from_the_queue_to_its_segments(scene: Scene) -> None:
    name = scene.submit()
    queued = scene.job("status", name)["data"]
    assert (queued["state"], queued["rounds"], queued["seconds_left"]) == ("queued", 3, None)

    scene.work()

    finished = scene.job("wait", name)["data"]
    assert (finished["state"], finished["step"], finished["error"]) == ("finished", 3, None)
    listed = scene.job("list")["data"]
    assert [one["id"] for one in listed["jobs"]] == [name]
    assert listed["damaged"] == []
    shown = scene.cli.here("segments", "show", scene.server / "jobs" / name)
    assert shown.code == 0, shown.err
    assert "finished" in scene.run("status", name).out
    assert name in scene.run("list").out
    assert scene.job("submit", scene.plan)["data"]["outcome"] == "finished already, so nothing has changed"


def test_the_status_of_a_running_job_says_whom_it_waits_for_why_and_how_long(scene: Scene) -> None:
    name = scene.submit()
    seen: list[dict[str, Any]] = []
    text: list[str] = []

    def look() -> None:
        seen.append(scene.job("status", name)["data"])
        text.append(scene.run("status", name).out)

    scene.link.on_reply = look
    scene.work()

    assert seen[1]["state"] == "running"
    assert seen[1]["answered"] == ["north"]
    assert list(seen[1]["waiting"]) == ["south"]
    assert 0 < seen[1]["seconds_left"] <= 60
    assert "state      running: round 1 of 3, " in text[1]
    assert re.search(r"^waits for  south: asked \d+ s ago$", text[1], re.MULTILINE)


def test_waiting_for_a_failed_job_ends_with_the_jobs_own_error(scene: Scene) -> None:
    name = scene.job("submit", other_plan(scene, deadline_seconds=1))["data"]["id"]
    scene.work()

    said = scene.job("wait", name, code=6)

    assert said["error"]["code"] == "E601"
    assert said["data"]["state"] == "failed"
    assert "E601" in scene.run("status", name).out


def test_waiting_for_a_cancelled_job_says_so(scene: Scene) -> None:
    name = scene.submit()
    scene.job("cancel", name)
    assert scene.job("wait", name, code=6)["error"]["code"] == "E605"


def test_cancelling_a_running_job_says_when_it_ends(scene: Scene) -> None:
    name = scene.submit()
    said: list[dict[str, Any]] = []
    scene.link.on_reply = lambda: said.append(scene.job("cancel", name)["data"])

    scene.work()

    assert said[0]["outcome"].startswith("asked to stop")
    assert said[0]["cancelling"] is True
    assert scene.jobs.read(name).state is JobState.CANCELLED


def test_waiting_ends_when_the_time_is_up_and_tells_what_the_job_waits_for(scene: Scene) -> None:
    name = scene.submit()
    with scene.coordinator():
        ended = scene.run("wait", name, "--timeout", "0.2")

    assert ended.code == 6
    assert ended.err.splitlines() == [
        "queued behind other jobs",
        f"E606: job {name} has not ended within 0.2 s",
        "why: it is queued",
        f"fix: fedseg job wait {name} --server {scene.server}",
    ]


def test_waiting_for_a_server_that_is_gone_ends_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedseg.server.jobs.ABSENCE_SECONDS", 0.2)
    name = scene.submit()

    ended = scene.run("wait", name)

    assert ended.code == 6
    assert ended.err.splitlines()[:2] == ["queued; the server is not running", f"E603: nobody works on job {name}"]
    assert ended.err.endswith(f"fix: fedseg server start {scene.server}\n")


def test_waiting_shows_a_line_for_each_new_stage(scene: Scene) -> None:
    name = scene.submit()
    ended: list[Ended] = []
    waiter = threading.Thread(target=lambda: ended.append(wait_in_a_process(scene, name)))
    with scene.coordinator():
        waiter.start()
        scene.link.on_reply = pause
        scene.work()
        waiter.join()

    assert ended[0].code == 0, ended[0].err
    stages = ended[0].err.splitlines()
    assert "round 2 of 3: waiting for south" in stages
    assert len(stages) == len(set(stages))


def pause() -> None:
    """So long that everyone who looks at the job sees what it waits for."""
    time.sleep(0.8)


def wait_in_a_process(scene: Scene, name: str) -> Ended:
    return scene.cli("job", "wait", name, "--timeout", 60, FEDSEG_SERVER=str(scene.server))


def test_an_inspection_names_every_release_and_recomputes_the_segments(scene: Scene) -> None:
    name = scene.submit()
    assert scene.job("inspect", name)["data"]["steps"] == []
    scene.work()

    data = scene.job("inspect", name)["data"]

    assert [step["counted"] for step in data["steps"]] == [["north", "south"]] * 3
    releases = set()
    for home in scene.federation.homes:
        with home.ledger() as ledger:
            releases |= {str(entry.body["release_id"]) for entry in ledger.entries() if entry.kind == "release"}
    assert {reply["release_id"] for step in data["steps"] for reply in step["replies"]} == releases
    assert all(len({one["request_sha256"] for one in step["replies"]}) == 1 for step in data["steps"])
    assert data["recomputed"] is True
    assert "recomputed from these releases: the same" in scene.run("inspect", name).out


def test_segments_that_differ_from_the_ledgers_are_found(scene: Scene) -> None:
    name = scene.submit()
    scene.work()
    path = scene.server / "jobs" / name / "segmentation.json"
    path.write_bytes(path.read_bytes() + b"\n")

    assert scene.job("inspect", name, code=9)["error"]["code"] == "E901"


def test_a_damaged_record_is_shown_beside_the_others(scene: Scene) -> None:
    name = scene.submit()
    other = scene.job("submit", other_plan(scene))["data"]["id"]
    (scene.server / "jobs" / name / "job.json").write_text("{", encoding="utf-8")

    listed = scene.job("list")["data"]

    assert [one["id"] for one in listed["jobs"]] == [other]
    assert [one["id"] for one in listed["damaged"]] == [name]
    assert scene.job("status", name, code=2)["error"]["code"] == "E204"
    assert "DAMAGED" in scene.run("list").out
    repaired = listed["damaged"][0]["fix"].split()[1:]
    assert scene.cli.here(*repaired).code == 0
    assert scene.job("list")["data"]["damaged"] == []


@pytest.mark.parametrize("verb", ["status", "wait", "inspect", "cancel"])
def test_an_unknown_job_is_a_usage_error_that_lists_the_known_ones(scene: Scene, verb: str) -> None:
    name = scene.submit()
    error = scene.job(verb, "nothing", code=2)["error"]
    assert (error["code"], error["why"]) == ("E201", f"known jobs: {name}")


@pytest.mark.parametrize("arguments", [["list"], ["submit", "plan.toml"], ["status", "x"]], ids=lambda value: value[0])
def test_a_directory_that_is_no_servers_is_a_deployment_error(scene: Scene, arguments: list[str]) -> None:
    ended = scene.cli.here("job", *arguments, "--server", "units", "--format", "json")
    assert (ended.code, ended.envelope["error"]["code"]) == (2, "E204")


def test_a_file_that_is_no_plan_is_a_plan_error_and_nothing_is_queued(scene: Scene) -> None:
    broken = scene.plan.with_name("broken.toml")
    broken.write_text("k = [1,\n", encoding="utf-8")
    assert scene.job("submit", broken, code=2)["error"]["code"] == "E203"
    assert scene.jobs.ids() == []
