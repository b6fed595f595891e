"""The officer's journey: from a bundle to a verdict and a printed page, on a clean home, by the commands of the page alone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedseg.audit.bundle import collect, write_bundle
from tests.docs.transcripts import ROOT, parse_block, plain_terminal

pytestmark = pytest.mark.browser

PAGE = ROOT / "docs" / "how-to" / "officers-desk.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """What the page types from its first step on: before it, the evidence is made."""
    steps = PAGE.read_text(encoding="utf-8").partition("## 1. Get to a verdict")[2]
    return [command.text for block in _BLOCK.findall(steps) for command in parse_block(block)]


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = plain_terminal() | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def evidence(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and the plan by which its keys are known: all that an officer has."""
    folder = tmp_path_factory.mktemp("officer")
    write_bundle(collect(run), folder / "evidence.zip")
    (folder / "run").mkdir()
    shutil.copy(run / "plan.toml", folder / "run" / "plan.toml")
    return folder


def test_an_officer_gets_to_a_verdict_and_a_printed_page_with_the_commands_of_the_page(evidence: Path) -> None:
    for command in commands():
        done = typed(command, evidence)
        wanted = int(found[1]) if (found := re.search(r"# exit (\d+)$", command)) else 0
        assert done.returncode == wanted, f"{command}\n{done.stdout}{done.stderr}"

    printed = (evidence / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
    assert {one.name for one in (evidence / "desk").iterdir()} == {
        "report.html", "report.json", "ledger.csv", "dp-registry.yaml", "noise-audit.json", "bundle.zip",
    }  # fmt: skip


def test_a_fault_planted_in_the_evidence_is_found_by_both_commands_that_look(run: Path, tmp_path: Path) -> None:
    planted = Path(shutil.copytree(run, tmp_path / "run"))
    policy = next(planted.glob("nodes/*/policy.yaml"))
    policy.write_text(policy.read_text(encoding="utf-8").replace("min_cohort: 20", "min_cohort: 10"), encoding="utf-8")
    write_bundle(collect(planted), tmp_path / "evidence.zip")

    looked = [one for one in commands() if one.startswith(("fedseg audit verify", "fedseg report --from evidence.zip"))]
    first = [typed(one.replace(" --noise-audit noise-audit.json", ""), tmp_path) for one in looked[:2]]

    assert [one.returncode for one in first] == [9, 9]
    assert all("L10-unlogged" in one.stdout + one.stderr for one in first)
    assert "NOT VERIFIED" in (tmp_path / "desk" / "report.html").read_text(encoding="utf-8")


def test_the_journey_needs_no_network(evidence: Path) -> None:
    """The page is one file: no address in it but names of things."""
    typed("fedseg report --from evidence.zip --out alone", evidence)
    page = (evidence / "alone" / "report.html").read_text(encoding="utf-8")

    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    assert "<script" not in page
    assert len(page) < 500_000
