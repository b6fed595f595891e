"""`fedseg audit noise` as its user meets it: words that promise no more than was seen, JSON, exit codes, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedseg.cli.main import run_command
from tests.empirical.planted import FAULTS
from tests.small_federation import make_unit, policy_document

QUICK = ["audit", "noise", "--n", "800", "--part", "noise"]


def envelope(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return read


def test_a_pass_says_that_no_violation_was_found_and_what_it_cannot_prove(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(QUICK) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "no violation found"
    assert "An alarm is false in at most one of 1,000,000 audits" in out
    assert "cannot prove" in out
    assert "proved" not in out
    assert "YES" not in out


def test_the_json_holds_the_bound_beside_the_promise_and_what_would_be_noticed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command([*QUICK, "--seed", "5", "--format", "json"]) == 0
    data = envelope(capsys)["data"]
    assert (data["verdict"], data["violated"], data["seed"]) == ("no violation found", False, 5)
    assert data["false_alarm"] == 1e-6
    assert [game["name"] for game in data["games"]] == ["noise-single", "noise-alike", "noise-turned"]
    for game in data["games"]:
        assert game["guesses"] == 8000
        assert 0 < game["rho_at_least"] < game["rho"]
        assert 0 < game["epsilon_at_least"] < game["epsilon"]
        assert 1 < game["noise_factor_noticed"] < 1.2


def test_a_fault_ends_with_exit_code_9_and_all_that_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS["noise too small by the root of 2"].plant(monkeypatch)
    assert run_command([*QUICK, "--format", "json"]) == 9
    found = envelope(capsys)
    assert (found["error"]["code"], found["data"]["verdict"]) == ("E903", "VIOLATION FOUND")
    assert all(game["violated"] for game in found["data"]["games"])
    assert run_command(QUICK) == 9
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "VIOLATION FOUND"
    assert shown.out.count("YES") == 3
    assert "E903: this installation gives away more than it promises" in shown.err


def test_it_refuses_the_home_of_a_real_unit_and_where_its_source_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = make_unit(tmp_path / "north", "north", consenting=(), customers=b"", policy=policy_document())
    before = sorted(home.path.rglob("*"))
    for place in (home.path, home.path / "LOCAL/new", tmp_path):
        assert run_command([*QUICK, "--scratch", str(place), "--node", str(home.path)]) == 2
        assert "E201: an audit of the noise cannot work in" in capsys.readouterr().err
    assert sorted(home.path.rglob("*")) == before


@pytest.mark.parametrize("n", ["799", "100001", "many"])
def test_it_refuses_a_number_of_guesses_that_could_say_nothing_or_does_not_fit(n: str) -> None:
    assert run_command(["audit", "noise", "--n", n]) == 2
