"""A true report is told from a changed one: whoever has the folder makes it again and compares every byte."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.year import make_year
from fedseg import __version__
from fedseg.cli.main import run_command
from fedseg.errors import DataError, FedsegError, SettingsError, StorageError, VerificationError
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.pack import Question, check, make, signed_off, write
from tests.report.noise_audit_file import GAME, audit_file


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.fixture
def copied(desk: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(desk, tmp_path / "desk"))


def test_a_report_that_nobody_changed_is_made_again_byte_for_byte(desk: Path) -> None:
    assert check(desk).verified


def test_the_same_evidence_and_question_give_the_same_bytes(fortnight: Path, desk: Path) -> None:
    _, files = make(gather([fortnight]), Question("2026-01", {}, None, None))
    assert {name: (desk / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("name", ["report.html", "report.json", "ledger.csv", "dp-registry.yaml", "bundle.zip"])
@pytest.mark.parametrize(
    "change", [lambda data: data + b" ", lambda data: data[:-1], lambda data: flipped(data, len(data) // 2)]
)
def test_a_changed_file_is_found(copied: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (copied / name).write_bytes(change((copied / name).read_bytes()))

    with pytest.raises(VerificationError):
        check(copied)


def test_a_number_made_nicer_on_the_page_is_found_and_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (copied / "report.html").read_text(encoding="utf-8")
    (copied / "report.html").write_text(page.replace("No witness", "Witnessed"), encoding="utf-8")

    assert run_command(["report", "--check", str(copied)], debug=False) == 9
    assert "report.html: it is not what bundle.zip" in capsys.readouterr().err


@pytest.mark.parametrize("period", ["2026-Q2", "2025", "all"])
def test_another_question_than_the_pages_is_found(copied: Path, period: str) -> None:
    text = (copied / "report.json").read_text(encoding="utf-8")
    (copied / "report.json").write_text(text.replace('"text": "2026-01"', f'"text": "{period}"'), encoding="utf-8")

    with pytest.raises(VerificationError):
        check(copied)


@pytest.mark.parametrize("name", ["report.html", "report.json", "ledger.csv", "dp-registry.yaml", "bundle.zip"])
def test_a_file_that_is_gone_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()

    with pytest.raises(StorageError, match=name):
        check(copied)


def test_a_file_that_the_evidence_does_not_give_is_found(copied: Path) -> None:
    (copied / "noise-audit.json").write_bytes(audit_file())

    with pytest.raises(VerificationError):
        check(copied)


@pytest.mark.parametrize("rest", ["", ', "a field of that version": 1'])
def test_of_a_report_by_another_version_both_are_named_and_what_each_can_check(
    copied: Path, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    heading = f'{{"schema_version": 2, "kind": "fedseg-officer-report", "software": "fedseg 9.9.9"{rest}}}'
    (copied / "report.json").write_text(heading, encoding="utf-8")

    assert run_command(["report", "--check", str(copied)], debug=False) == 2

    said = capsys.readouterr().err
    assert f"the report is of fedseg 9.9.9, and this is fedseg {__version__}" in said
    assert "nothing was compared, and nothing was found to be wrong" in said
    assert "pip install fedseg==9.9.9" in said
    assert f"fedseg audit verify {copied / 'bundle.zip'}" in said


@pytest.mark.parametrize("software", ["fedseg", "fedseg 1; rm -rf ~", "fedseg 9\n", "other 0.1.0", ""])
def test_what_names_no_version_is_no_report(copied: Path, software: str) -> None:
    document = json.loads((copied / "report.json").read_bytes()) | {"software": software}
    (copied / "report.json").write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(VerificationError, match="not the one"):
        check(copied)


def test_a_report_in_a_form_that_this_version_does_not_write_was_changed(copied: Path) -> None:
    text = (copied / "report.json").read_text(encoding="utf-8")
    (copied / "report.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'), encoding="utf-8")

    with pytest.raises(VerificationError, match="not the one"):
        check(copied)


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'{"kind": "fedseg-officer-report"}', b"\xff"])
def test_what_is_no_report_is_refused(copied: Path, document: bytes) -> None:
    (copied / "report.json").write_bytes(document)

    with pytest.raises(VerificationError, match="not the one"):
        check(copied)


def test_the_page_of_a_run_is_not_written_over(fortnight: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema_version": 1, "verified": true}', encoding="utf-8")

    with pytest.raises(SettingsError, match="another report"):
        write(gather([fortnight]), Question(None, {}, None, None), tmp_path)


def test_an_officers_report_takes_the_place_of_an_older_one(desk: Path, copied: Path) -> None:
    report, _ = write(gather([desk / "bundle.zip"]), Question("2025", {}, None, audit_file()), copied)

    assert report.plans == ()
    assert not (copied / "dp-registry.yaml").exists()
    assert check(copied).period.text == "2025"


# The last sign-off


def test_since_a_sign_off_only_what_came_after_is_new(desk: Path, tmp_path: Path) -> None:
    earlier = signed_off(desk)

    report, _ = write(gather([desk / "bundle.zip"]), Question(None, {}, earlier, None), tmp_path / "next")

    assert report.policy_changes == ()
    assert [one.goes_on_from for one in report.log] == [one.entries for one in report.log]
    assert check(tmp_path / "next").signed_off == earlier


def test_a_ledger_with_another_past_than_was_signed_off_fails(desk: Path, tmp_path: Path) -> None:
    other = make_year(2, 3)

    report, _ = make(other.members, Question(None, {}, signed_off(desk), None))

    assert {one.code for one in report.failures} == {"L13-shorter"}
    assert (report.units, report.plans, report.checklist, report.together) == ((), (), (), None)


def test_a_rewritten_past_fails(fortnight: Path, desk: Path, tmp_path: Path) -> None:
    document = json.loads((desk / "report.json").read_bytes())
    document["log"][1]["root"] = "00" * 32
    (tmp_path / "report.json").write_text(json.dumps(document), encoding="utf-8")

    report, _ = make(gather([fortnight]), Question(None, {}, signed_off(tmp_path), None))

    assert [one.code for one in report.failures] == ["L13-rewritten"]


@pytest.mark.parametrize("document", ["{}", '{"kind": "x"}'])
def test_what_was_no_report_cannot_have_been_signed_off(tmp_path: Path, document: str) -> None:
    (tmp_path / "report.json").write_text(document, encoding="utf-8")

    with pytest.raises(DataError, match="cannot be compared"):
        signed_off(tmp_path)


# The empirical audit


def test_a_pass_is_no_violation_found_and_never_a_proof(fortnight: Path) -> None:
    report, files = make(gather([fortnight]), Question(None, {}, None, audit_file()))
    page = files["report.html"].decode()

    assert report.noise_audit is not None
    assert not report.noise_audit.violated
    assert "<b>No violation found</b>" in page
    assert "proves nothing" in page
    assert not re.search(r"\bprove[ds]?\b", page.replace("proves nothing", ""))


def test_a_violation_is_the_first_thing_that_waits(fortnight: Path) -> None:
    bad = audit_file(violated=True, games=[GAME | {"right_at_least": 0.9}])

    report, files = make(gather([fortnight]), Question(None, {}, None, bad))

    assert "violation" in report.waiting[0].what
    assert "A violation was found" in files["report.html"].decode()


@pytest.mark.parametrize(
    "document",
    [
        b"", b"{}", audit_file(games=[]), audit_file(games=[GAME | {"guesses": 0}]),
        audit_file(violated=True), audit_file(games=[GAME | {"right_at_least": 0.9}]),
    ],
)  # fmt: skip
def test_an_audit_that_contradicts_itself_or_is_none_is_refused(fortnight: Path, document: bytes) -> None:
    with pytest.raises(DataError):
        make(gather([fortnight]), Question(None, {}, None, document))


def test_not_run_is_said(desk: Path) -> None:
    assert "<b>Not run</b>" in (desk / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command", [["--out", "x"], ["--from", "BUNDLE"], ["--from", "BUNDLE", "--out", "x", "--period", "soon"]]
)
def test_a_question_without_evidence_place_or_period_is_refused(
    command: list[str], fortnight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSEG_NODE", raising=False)

    assert run_command(["report", *(str(fortnight) if one == "BUNDLE" else one for one in command)], debug=False) == 2
    assert list(tmp_path.iterdir()) == []


def test_every_error_of_a_check_says_what_to_do(copied: Path) -> None:
    (copied / "report.html").write_bytes(b"")
    with pytest.raises(FedsegError) as caught:
        check(copied)
    assert "fedseg report --from bundle.zip" in caught.value.fix
