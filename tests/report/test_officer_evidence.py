"""What does not check out is named, and then no figure stands on the page; what is missing is said."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.year import make_year
from fedseg.audit.archive import Member, Role, unpack
from fedseg.cli.main import run_command
from fedseg.errors import SettingsError, VerificationError
from fedseg.ledger.export import export_ledger, parse_export
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.privacy.noise import SimulatedNoise
from fedseg.report.officer import ledgers
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.model import OfficerReport
from fedseg.report.officer.pack import Question, make

ALL = Question(None, {}, None, None)
Change = Callable[[bytes], bytes]


def of(members: tuple[Member, ...], question: Question = ALL) -> OfficerReport:
    return make(members, question)[0]


@pytest.fixture(scope="module")
def members(fortnight: Path) -> tuple[Member, ...]:
    return unpack(fortnight.read_bytes())


def with_change(members: tuple[Member, ...], name: str, change: Change) -> tuple[Member, ...]:
    return tuple(replace(one, data=change(one.data)) if one.name == name else one for one in members)


def without(members: tuple[Member, ...], *names: str) -> tuple[Member, ...]:
    return tuple(one for one in members if not one.name.startswith(names))


def first_entries(ledger: bytes, end: int) -> bytes:
    """A true older copy: its first entries, with their checkpoints and payloads."""
    raw = parse_export(ledger)
    entries = raw.entries[:end]
    ids = {one.payload.id for one in entries if one.payload is not None}
    notes = [(size, note) for size, note in raw.notes if size <= len(entries)]
    payloads = {id_: data for id_, data in raw.payloads.items() if id_ in ids}
    return export_ledger(RawLedger.from_parts([one.to_bytes() for one in entries], notes, payloads))


def lower_price(ledger: bytes) -> bytes:
    """The first stated total of a release, lowered."""
    before, mark, after = ledger.partition(b'"rho_spent_after":"')
    return before + mark + b"1" + after[1:] if after[:1] != b"1" else before + mark + b"2" + after[1:]


PLANTED: dict[str, tuple[str, Change]] = {
    "a price": ("units/unit-1/ledger.txt", lower_price),
    "a name": ("units/unit-1/ledger.txt", lambda data: data.replace(b"unit-1", b"unit-9")),
    "a verdict": ("units/unit-0/ledger.txt", lambda data: data.replace(b'"revoked"', b'"expired"')),
    "a count": (
        "server/ledger.txt",
        lambda data: data.replace(b'["unit-0","unit-1","unit-2"]', b'["unit-0","unit-1"]'),
    ),
    "nothing at all": ("server/ledger.txt", lambda _: b""),
    "a plan": ("jobs/daily-0003/plan.toml", lambda data: data.replace(b"k = 3", b"k = 4")),
    "no plan": ("jobs/daily-0003/plan.toml", lambda _: b"x"),
    "a result": ("jobs/daily-0003/segmentation.json", lambda data: data.replace(b'"rounds":3', b'"rounds":2')),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_and_no_figure_stands(members: tuple[Member, ...], fault: str) -> None:
    name, change = PLANTED[fault]
    changed = with_change(members, name, change)
    assert changed != members

    report, files = make(changed, ALL)
    page = files["report.html"].decode()

    assert not report.verified
    assert name in report.failures[0].where
    assert report.failures[0].code in page
    assert "NOT VERIFIED" in page
    assert "left to approve" not in page
    assert (report.units, report.plans, report.checklist) == ((), (), ())
    assert set(files) == {"report.html", "report.json", "ledger.csv", "bundle.zip"}
    assert files["ledger.csv"].count(b"\n") == 1
    with pytest.raises(VerificationError):
        report.require_verified()


def test_a_unit_that_charged_something_else_than_was_counted_is_found(members: tuple[Member, ...]) -> None:
    # The same names and days, other keys and other noise: each ledger is sound by itself.
    other = make_year(2, 3)
    mixed = (
        *without(members, "units/unit-2/", "jobs/"),
        *(m for m in other.members if m.name.startswith("units/unit-2/")),
    )

    assert {one.code for one in of(mixed).failures} == {"L1-plan", "L12-uncharged"}


def test_without_the_servers_ledger_the_rest_is_said_and_the_gap_too(members: tuple[Member, ...]) -> None:
    report = of(without(members, "server/"))

    assert report.verified
    assert "No server's ledger is here" in report.remarks[0]
    assert {one.counted for one in report.plans} == {None}


def test_an_absent_unit_is_named_and_waited_for(members: tuple[Member, ...]) -> None:
    report = of(without(members, "units/unit-2/"))

    assert report.absent == ("unit-2",)
    assert any("unit-2" in one.what for one in report.waiting)
    assert [one.name for one in report.units] == ["unit-0", "unit-1"]


def test_the_servers_ledger_alone_has_no_day_and_no_budget(members: tuple[Member, ...]) -> None:
    report, files = make(without(members, "units/"), Question("2026-01", {}, None, None))

    assert (report.period.as_of, report.units) == ("", ())
    assert "have no day" in " ".join(report.remarks)
    assert "nothing can be said about budgets" in files["report.html"].decode()


def test_a_release_that_nobody_counted_is_said_and_costs_its_price(members: tuple[Member, ...]) -> None:
    # An older copy of the server's ledger, from the middle of the first round of the last plan.
    older = with_change(
        without(members, "jobs/daily-0011/"), "server/ledger.txt", lambda data: first_entries(data, -12)
    )

    all_of_it, report = of(members), of(older)

    assert "do not stand in the server's ledger" in report.remarks[0]
    assert [one.counted for one in report.plans] == [False, *(11 * [True])]
    assert report.plans[0].published is None
    assert [one.spent for one in report.units] == [one.spent for one in all_of_it.units]


def test_a_key_that_was_given_must_be_the_ledgers(members: tuple[Member, ...]) -> None:
    stranger = SigningKey.generate().public.to_text()
    right = of(members).log[1].public_key

    wrong = of(members, Question(None, {"unit-0": stranger}, None, None))
    vouched = of(members, Question(None, {"fedseg/unit/unit-0": right, "unit-7": stranger}, None, None))

    assert [one.code for one in wrong.failures] == ["L1-key"]
    assert [one.key_given for one in vouched.log] == [False, True, False, False]
    assert "unit-7" in " ".join(vouched.remarks)


def test_two_different_copies_of_a_ledger_are_not_mixed(fortnight: Path, tmp_path: Path) -> None:
    other = make_year(1, 1).write(tmp_path / "other.zip")

    with pytest.raises(SettingsError, match="two different files"):
        gather([fortnight, other])


def test_a_bundle_that_is_none_gives_no_report(fortnight: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.zip"
    forged.write_bytes(fortnight.read_bytes().replace(b"unit-1", b"unit-9"))

    assert run_command(["report", "--from", str(forged), "--out", str(tmp_path / "out")], debug=False) == 9
    assert not (tmp_path / "out").exists()


def test_nothing_is_no_evidence() -> None:
    assert [one.code for one in of(()).failures] == ["B2-empty"]


def test_many_ledgers_are_read_by_several_processes_to_the_same_end(
    members: tuple[Member, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = of(members)
    monkeypatch.setattr(ledgers, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    assert of(members) == alone


def test_a_period_before_everything_holds_nothing(members: tuple[Member, ...]) -> None:
    report = of(members, Question("2025", {}, None, None))

    assert (report.units, report.plans, report.refusals, report.period.as_of) == ((), (), (), "")


def test_budgets_stand_as_they_did_at_the_end_of_the_period() -> None:
    year = make_year(40, 1)

    january, both = of(year.members, Question("2026-01", {}, None, None)), of(year.members)

    assert january.period.as_of == "2026-01-31"
    (then,), (now,) = january.units, both.units
    assert then.spent.rho < now.spent.rho
    assert (then.releases, then.releases_in_period, now.releases) == (93, 93, 120)
    assert [one.month for one in both.months] == ["2026-01", "2026-02"]
    assert sum(one.releases for one in both.months) == 120


def test_simulated_noise_is_said_before_anything_else() -> None:
    report, files = make(make_year(1, 1, noise=SimulatedNoise(3)).members, ALL)

    assert report.simulated
    assert "Simulated noise: this protects nobody" in files["report.html"].decode()


def test_a_role_that_is_no_ledger_counts_as_none(members: tuple[Member, ...]) -> None:
    assert of(tuple(one for one in members if one.role is not Role.LEDGER)).failures[0].code == "B2-empty"


def test_a_report_says_that_there_is_no_witness_and_what_policies_say(members: tuple[Member, ...]) -> None:
    report, files = make(members, ALL)

    assert not report.witnessed
    silent = "no witness: its policy says nothing of witnesses"
    assert [one.witnesses for one in report.log] == ["no witness", *(3 * [silent])]
    assert "unit-0, unit-1, unit-2: no witness: its policy says nothing" in files["report.html"].decode()
