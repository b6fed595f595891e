"""The settings file gives options their defaults, and never passes over what it does not understand."""

import json
from pathlib import Path

import pytest

from fedseg.cli.main import run_command


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSEG_FORMAT", raising=False)
    monkeypatch.delenv("FEDSEG_CONFIG", raising=False)
    return tmp_path


def _is_json(text: str) -> bool:
    try:
        return bool(json.loads(text))
    except ValueError:
        return False


def test_a_key_on_top_holds_for_every_command_and_a_table_for_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "fedseg.toml").write_text('format = "json"\n[explain]\nformat = "text"\n', encoding="utf-8")
    assert run_command(["version"]) == 0
    assert _is_json(capsys.readouterr().out)
    assert run_command(["explain", "E401"]) == 0
    assert not _is_json(capsys.readouterr().out)


def test_the_environment_wins_over_the_file_and_an_option_over_both(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "fedseg.toml").write_text('format = "json"\n', encoding="utf-8")
    monkeypatch.setenv("FEDSEG_FORMAT", "text")
    assert run_command(["version"]) == 0
    assert not _is_json(capsys.readouterr().out)
    assert run_command(["version", "--format", "json"]) == 0
    assert _is_json(capsys.readouterr().out)


def test_a_table_may_name_a_command_of_a_group(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fedseg.toml").write_text('[policy.check]\nformat = "json"\n', encoding="utf-8")
    (folder / "policy.yaml").write_text("{}", encoding="utf-8")
    assert run_command(["policy", "check", "policy.yaml"]) == 3
    assert run_command(["version"]) == 0
    assert not _is_json(capsys.readouterr().out)


@pytest.mark.parametrize(
    "document",
    [
        'formta = "json"',
        "dry_run = true",
        '[explain]\nnode = "home"',
        '[nothing]\nformat = "json"',
        '[policy.nothing]\nformat = "json"',
        "not toml",
    ],
)
def test_a_setting_that_means_nothing_is_refused(
    folder: Path, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "fedseg.toml").write_text(document, encoding="utf-8")
    assert run_command(["version"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("E201: the settings file fedseg.toml cannot be used\nwhy: ")


def test_a_group_without_a_command_shows_its_help_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan"]) == 2
    printed = capsys.readouterr()
    assert "check" in printed.out
    assert printed.err == "E201: no command was given\nwhy: the help above lists them\nfix: fedseg plan COMMAND\n"
