"""`fedseg segments page`: a page beside the report, or from a result with its plan and policies."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.small_scenario import write_bounds_scenario, write_scenario


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fedseg simulate` left; not to be written to."""
    folder = tmp_path_factory.mktemp("page")
    ended = Cli(folder).here("simulate", write_scenario(folder), "--out", "run")
    assert ended.code == 0, ended.err
    assert "segments  run/segments.html" in ended.out
    return folder / "run"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_a_run_has_its_page_and_the_command_makes_the_same(cli: Cli, run: Path) -> None:
    ended = cli.here("segments", "page", run, "--format", "json")
    assert ended.envelope["data"] == {"html": "segments.html", "policies": 2}
    assert (cli.folder / "segments.html").read_bytes() == (run / "segments.html").read_bytes()


def test_a_result_alone_has_a_page_that_claims_less(cli: Cli, run: Path) -> None:
    ended = cli.here("segments", "page", run / "segmentation.json", "--out", "there/page.html")
    assert ended.out.splitlines()[0] == "there/page.html"
    assert "no policy was given" in ended.out
    assert "take nothing as allowed" in (cli.folder / "there" / "page.html").read_text("utf-8")
    policy = next(run.glob("nodes/*/policy.yaml"))
    ended = cli.here("segments", "page", run / "segmentation.json", "--policy", policy, "--plan", run / "plan.toml")
    assert ended.out == "segments.html\n"
    assert "You may not" in (cli.folder / "segments.html").read_text("utf-8")


def test_two_results_are_compared_in_the_terminal_and_on_the_page(cli: Cli, run: Path) -> None:
    data = cli.here("segments", "diff", run, run / "segmentation.json", "--format", "json").envelope["data"]
    assert [(one["number"], one["number_before"], one["changes"]) for one in data["pairs"]] == [
        (number, number, []) for number in range(1, len(data["pairs"]) + 1)
    ]
    assert (data["new"], data["gone"]) == ([], [])
    ended = cli.here("segments", "diff", run, run)
    assert "all ranges meet" in ended.out
    assert "Nobody can say which customers went where" in " ".join(ended.out.split())
    ended = cli.here("segments", "page", run, "--earlier", run)
    assert ended.code == 0, ended.err
    assert "Since an earlier result" in (cli.folder / "segments.html").read_text("utf-8")


def test_another_plan_is_refused(cli: Cli, run: Path) -> None:
    plan = Path(shutil.copy(run / "plan.toml", cli.folder / "other.toml"))
    plan.write_text(plan.read_text("utf-8").replace("min_segment_size = ", "min_segment_size = 1"), "utf-8")
    ended = cli.here("segments", "page", run, "--plan", plan)
    assert ended.code == 9
    assert "is not the plan behind these segments" in ended.err
    assert not (cli.folder / "segments.html").exists()


def test_a_run_for_bounds_has_no_segment_page(cli: Cli) -> None:
    write_bounds_scenario(cli.folder)
    ended = cli.here("simulate", "scenario.toml", "--out", "run")
    assert ended.code == 0, ended.err
    assert not (cli.folder / "run" / "segments.html").exists()
    ended = cli.here("segments", "page", "run")
    assert ended.code == 8
    assert "the result holds no segments" in ended.err
