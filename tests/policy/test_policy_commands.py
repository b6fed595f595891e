"""`fedseg policy check`, `explain` and `diff`: what they print, and how they end."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedseg.cli.main import run_command
from fedseg.policy import space
from fedseg.policy.document import load_policy
from fedseg.policy.gate import judge

SHIPPED = sorted(Path("policies").absolute().glob("*.yaml"))
MINIMAL = next(path for path in SHIPPED if path.stem == "minimal")


class Ended:
    """How a command ended and what it printed."""

    def __init__(self, arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> None:
        self.code = run_command(["policy", *map(str, arguments)])
        self.out, self.err = capsys.readouterr()

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)["data"]
        return data


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A policy one part of which says nothing."""
    path = tmp_path / "dead.yaml"
    path.write_text(MINIMAL.read_text().replace("suppressed, minor]", "suppressed, minor, minor_or_unknown_age]"))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_good_policy_is_shown_with_whom_it_allows(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Ended(["check", path], capsys)
    assert shown.code == 0
    assert f"{path.stem} can be used; everything it does not name is denied" in shown.out
    assert "  allowed if\n    consent: given, or renewed" in shown.out
    assert shown.out.count("    yes  ") == 4 * len(load_policy(path.read_bytes()).purposes)
    assert "NO " not in shown.out


def test_the_json_of_a_check_has_groups_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = Ended(["check", MINIMAL, "--format", "json"], capsys).data["analysis"]
    assert one["purpose"] == "fedseg:SegmentStatistics"
    assert 0 < one["allowed"] < one["states"]
    assert one["groups"][0]["consent"] == ["given", "renewed"]
    assert all(finding["holds"] and finding["counterexample"] is None for finding in one["findings"])
    assert {"law": "no veto is overruled", "says": "objection denies, whatever else is on record"}.items() <= one[
        "findings"
    ][0].items()


def test_a_part_that_says_nothing_is_refused_with_its_name(dead: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Ended(["check", dead], capsys)
    assert shown.code == 3
    assert "can be read; everything" in shown.out
    assert "    NO   every part changes some decision\n" in shown.out
    assert "  it is not so that veto minor changes some decision\n" in shown.out
    assert "it is not so that veto minor changes some decision" in shown.err


def test_the_json_of_a_refused_policy_holds_the_analysis_too(dead: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Ended(["check", dead, "--format", "json"], capsys)
    assert shown.code == 3
    (one,) = shown.data["analysis"]
    assert [finding["says"] for finding in one["findings"] if not finding["holds"]] == [
        "veto minor changes some decision"
    ]


def test_a_gate_that_overrules_a_veto_is_shown_with_a_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def blind(standing: Any, rule: Any, moment: int) -> Any:
        return judge(replace(standing, vetoes=np.array(0, np.uint16)), rule, moment)

    monkeypatch.setattr(space, "judge", blind)
    shown = Ended(["check", MINIMAL], capsys)
    assert shown.code == 3
    assert "it is not so that objection denies, whatever else is on record, for instance here" in shown.out
    assert "    objection: yes\n" in shown.out


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_policy_is_explained_in_lines_people_can_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Ended(["explain", path], capsys)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 100
    assert load_policy(path.read_bytes()).digest in shown.out
    titles = [one["title"] for one in Ended(["explain", path, "--format", "json"], capsys).data["sections"]]
    assert all(f"{title}\n" in shown.out for title in titles)
    assert titles[-1] == "Who decides"


def test_an_explanation_shows_epsilon_at_the_cap(capsys: pytest.CaptureFixture[str]) -> None:
    assert "epsilon 2.15 at delta 1/1,000,000 (rho 1/10)" in Ended(["explain", MINIMAL], capsys).out


def test_a_policy_compared_with_itself_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Ended(["diff", MINIMAL, MINIMAL], capsys)
    assert shown.code == 0
    assert "no decision about any customer changes" in shown.out
    assert "the policies say the same" in shown.out


def test_two_policies_are_compared_by_states_and_by_keys(capsys: pytest.CaptureFixture[str]) -> None:
    other = next(path for path in SHIPPED if path.stem == "gdpr-marketing")
    shown = Ended(["diff", MINIMAL, other], capsys)
    assert shown.code == 0
    assert "fedseg:SegmentActivation: 392 states newly allowed, 0 newly denied\n  newly allowed if\n" in shown.out
    assert "    notice of consent: version 3 or later, or version 1 to 2\n    age: unknown\n" in shown.out
    assert "retention.raw_days" in shown.out
    data = Ended(["diff", MINIMAL, other, "--format", "json"], capsys).data
    assert data["before_sha256"] != data["after_sha256"]
    assert [one["purpose"] for one in data["decisions"]] == ["fedseg:SegmentStatistics", "fedseg:SegmentActivation"]
    assert {"key": "retention.raw_days", "before": 730, "after": 395} in data["keys"]
