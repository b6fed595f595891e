"""Every number of report.json follows from signed bytes, and what does not check out is said and not shown."""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from fedseg.errors import DataError, PlanError, SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import Json
from fedseg.ledger.reading import read_ledger
from fedseg.plan import parse_plan
from fedseg.privacy.budget import epsilon_of, parse_fraction
from fedseg.report.facts import _counts_to_show, collect, to_json, whose_word
from fedseg.report.model import ReportFacts
from fedseg.report.readings import reading_of
from fedseg.report.render import render, write_report

CopyOf = Callable[[Path], Path]


def document(facts: ReportFacts) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(facts))
    return found


def damage_payload(ledger: Path, kind: str) -> None:
    """Change stored bytes that an entry vouches for."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE payload SET data = zeroblob(length(data)) WHERE id GLOB ?", (f"{kind}:*",))
        connection.commit()


def test_a_sound_run_is_reported_as_verified(run: Path, facts: ReportFacts) -> None:
    assert facts.verified
    assert not facts.simulated
    assert not facts.absent
    assert facts.entries == sum(len(read_ledger(path).entries) for path in run.glob("**/ledger.db"))
    facts.require_verified()


def test_what_units_spent_is_the_sum_of_the_charges_in_their_ledgers(run: Path, facts: ReportFacts) -> None:
    for unit in document(facts)["units"]:
        entries = read_ledger(run / unit["ledger"]["path"]).entries
        releases: list[Any] = [entry.body for entry in entries if entry.kind == "release"]
        policy: Any = next(entry.body for entry in entries if entry.kind == "policy")
        spent = Fraction(0)
        for logged, shown in zip(releases, unit["releases"], strict=True):
            spent += parse_fraction(logged["charge"]["rho"])
            assert parse_fraction(shown["rho"]) == parse_fraction(logged["charge"]["rho"])
            assert parse_fraction(shown["rho_spent_after"]) == spent
            assert shown["sigma"] == logged["mechanism"]["sigma"]
            assert shown["l2_sensitivity_squared"] == logged["mechanism"]["l2_sensitivity_squared"]
            assert shown["integers"] == logged["cells"] * logged["width"]
            assert shown["output_sha256"] == logged["payload"]["sha256"]
            assert Decimal(shown["epsilon_after"]) == epsilon_of(spent, Fraction(1, 10**6))
        assert parse_fraction(unit["rho_spent"]) == parse_fraction(unit["rho"]) == spent
        assert parse_fraction(unit["rho_cap"]) == parse_fraction(policy["rho_cap"])
        assert unit["integers"] == sum(one["cells"] * one["width"] for one in releases)


def test_the_segments_are_those_the_server_signed(run: Path, facts: ReportFacts) -> None:
    payloads = read_ledger(run / "server" / "ledger.db").payloads
    signed = json.loads(next(data for name, data in payloads.items() if name.startswith("segmentation:")))
    shown = [one for one in signed["segmentation"]["segments"] if not one["suppressed"]]
    reported = document(facts)["segments"]
    assert reported["size"] == sum(one["size"] for one in shown)
    for one, other in zip(shown, reported["shown"], strict=True):
        assert (other["name"], other["size"], [other["size_low"], other["size_high"]]) == (
            one["name"],
            one["size"],
            one["size_interval"],
        )
        assert other["share"] == one["size"] / reported["size"]
        for value, told in zip(one["values"], other["values"], strict=True):
            assert {key: value[key] for key in ("feature", "center", "low", "high")}.items() <= told.items()


def test_a_customer_of_all_units_loses_at_most_the_printed_epsilon(facts: ReportFacts) -> None:
    privacy = facts.privacy
    assert privacy is not None
    together = sum((unit.rho for unit in facts.units), Fraction(0))
    assert together <= privacy.rho == privacy.by_units[-1].rho
    assert privacy.by_units[-1].units == len(facts.plan.units)
    assert privacy.epsilon == epsilon_of(privacy.rho, privacy.delta) <= facts.plan.epsilon
    assert float(privacy.odds_factor) >= math.exp(float(privacy.epsilon))
    assert Decimal("0.36") < privacy.guess_success <= Decimal("0.37")


def test_a_plan_of_very_many_units_lists_some_numbers_of_units_and_the_last() -> None:
    assert _counts_to_show(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _counts_to_show(250) == [1, 2, 5, 10, 100, 250]


def test_shown_epsilons_are_rounded_up(facts: ReportFacts) -> None:
    for unit in document(facts)["units"]:
        assert Decimal(unit["epsilon_spent_shown"]) >= Decimal(unit["epsilon_spent"])
        assert Decimal(unit["epsilon_cap_shown"]) >= Decimal(unit["epsilon_cap"])


def test_segments_whose_intervals_overlap_share_their_ranks(facts: ReportFacts) -> None:
    assert facts.segments is not None
    for place in range(len(facts.plan.features)):
        values = [reading_of(segment.values[place]) for segment in facts.segments.shown]
        for value in values:
            touching = [one for one in values if one.low <= value.high and one.high >= value.low]
            assert value.rank_to - value.rank_from + 1 == len(touching)


def test_the_report_needs_nothing_that_is_local_to_a_unit(run: Path, copy_of: CopyOf, facts: ReportFacts) -> None:
    copy = copy_of(run)
    for folder in [*copy.glob("nodes/*/LOCAL"), copy / "server" / "keys"]:
        shutil.rmtree(folder)
    assert to_json(collect(copy)) == to_json(facts)


@pytest.mark.parametrize(
    ("ledger", "kind"), [("nodes/rest-of-world/ledger.db", "release"), ("server/ledger.db", "contribution")]
)
def test_a_tampered_ledger_is_said_and_nothing_that_rests_on_it_is_shown(
    run: Path, copy_of: CopyOf, ledger: str, kind: str
) -> None:
    copy = copy_of(run)
    damage_payload(copy / ledger, kind)
    facts = collect(copy)
    assert not facts.verified
    assert [failure.where for failure in facts.failures] == [ledger]
    assert facts.segments is None
    assert facts.privacy is None
    assert ledger not in [one.path for one in facts.ledgers]
    page = render(facts)
    assert "Verification failed" in page
    assert "✓ Verified" not in page
    assert "Privacy loss" not in page
    assert f"fedseg ledger verify {ledger}\n" in page
    with pytest.raises(VerificationError) as refused:
        facts.require_verified()
    assert refused.value.exit_code == 9


def test_the_report_of_a_tampered_run_is_written_and_says_so(run: Path, copy_of: CopyOf, tmp_path: Path) -> None:
    copy = copy_of(run)
    damage_payload(copy / "server" / "ledger.db", "plan")
    facts = write_report(copy, tmp_path / "report")
    assert not facts.verified
    assert json.loads((tmp_path / "report" / "report.json").read_bytes())["verified"] is False
    assert "NOT VERIFIED" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_a_ledger_of_another_run_fails(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    shutil.copy(copy / "nodes" / "rest-of-world" / "ledger.db", copy / "nodes" / "rest-of-europe" / "ledger.db")
    assert [failure.where for failure in collect(copy).failures] == ["nodes/rest-of-europe/ledger.db"]


def test_a_unit_ledger_in_the_server_s_place_fails(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    shutil.copy(copy / "nodes" / "rest-of-world" / "ledger.db", copy / "server" / "ledger.db")
    assert [failure.what for failure in collect(copy).failures] == ["it is not a server's ledger"]


def test_a_ledger_of_a_unit_that_is_not_in_the_plan_fails(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    (copy / "nodes" / "rest-of-world").rename(copy / "nodes" / "stranger")
    assert [failure.what for failure in collect(copy).failures] == ["the plan names no unit of this name"]


def test_a_server_ledger_with_a_unit_s_key_does_not_stand_for_that_unit(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    server = read_ledger(copy / "server" / "ledger.db")
    text = (copy / "plan.toml").read_text(encoding="utf-8")
    key = parse_plan(text.encode()).units[0].public_key
    (copy / "plan.toml").write_text(text.replace(key, server.public_key.to_text()), encoding="utf-8")
    shutil.copy(copy / "server" / "ledger.db", copy / "nodes" / "uk-small-baskets" / "ledger.db")
    assert "it is the ledger of somebody else" in [failure.what for failure in collect(copy).failures]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda path: path.unlink(), "it is missing"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"size":', b'"size" :', 1)), "canonical"),
    ],
)
def test_a_segmentation_that_is_not_the_signed_one_fails(
    run: Path, copy_of: CopyOf, change: Callable[[Path], object], where: str
) -> None:
    copy = copy_of(run)
    change(copy / "segmentation.json")
    (failure,) = collect(copy).failures
    assert failure.where == "segmentation.json"
    assert where in failure.what


def test_a_segmentation_of_another_run_fails(run: Path, simulated_run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    shutil.copy(simulated_run / "segmentation.json", copy / "segmentation.json")
    (failure,) = collect(copy).failures
    assert failure.what == "it is not what the server's ledger gives"


def test_an_edited_plan_fails(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    text = (copy / "plan.toml").read_text(encoding="utf-8")
    (copy / "plan.toml").write_text(text.replace("min_segment_size = 50", "min_segment_size = 5"), encoding="utf-8")
    facts = collect(copy)
    assert not facts.verified
    assert facts.segments is None
    assert all(not unit.releases and not unit.approved_at for unit in facts.units)
    assert "Released nothing for this plan" in render(facts)


def test_without_the_units_ledgers_the_report_says_what_was_not_checked(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    shutil.rmtree(copy / "nodes")
    (copy / "metrics.json").unlink()
    facts = collect(copy)
    assert facts.verified
    assert len(facts.absent) == len(facts.plan.units)
    assert facts.privacy is not None
    assert facts.privacy.noise == "unknown"
    assert facts.measured is None
    page = render(facts)
    assert "Not here, so not checked" in page
    assert "cannot say what any unit spent" in page
    assert "Simulation only" not in page


def test_one_absent_unit_is_named(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    shutil.rmtree(copy / "nodes" / "rest-of-world")
    facts = collect(copy)
    assert facts.verified
    assert facts.absent == ("rest-of-world",)
    assert facts.privacy is not None
    assert facts.privacy.noise == "unknown"
    assert "the ledger of rest-of-world" in render(facts)


def test_a_run_without_the_server_s_ledger_proves_nothing(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    (copy / "server" / "ledger.db").unlink()
    facts = collect(copy)
    assert [failure.where for failure in facts.failures] == ["server/ledger.db"]
    assert str(copy) not in render(facts)


def test_simulated_noise_is_never_called_private(simulated_run: Path) -> None:
    facts = collect(simulated_run)
    assert facts.verified
    assert facts.simulated
    assert facts.privacy is not None
    assert facts.privacy.noise == "simulated"
    assert "not a differentially private release" in render(facts)


def test_a_suppressed_segment_is_a_name_and_nothing_else(simulated_run: Path) -> None:
    facts = collect(simulated_run)
    assert facts.segments is not None
    assert len(facts.segments.shown) == 2
    assert document(facts)["segments"]["suppressed"] == ["Suppressed (1)", "Suppressed (2)"]
    page = render(facts)
    for name in facts.segments.suppressed:
        card = page.split(f"<h3><bdi>{name}</bdi></h3>")[1].split("</article>")[0]
        numbers = [word for word in card.replace(",", "").replace("<", " ").split() if word[0].isdigit()]
        assert numbers == [str(facts.plan.min_segment_size)]


def test_nothing_but_suppressed_segments_still_makes_a_report(simulated_run: Path) -> None:
    found = collect(simulated_run)
    assert found.segments is not None
    nothing = replace(found.segments, shown=(), suppressed=("Suppressed (1)",), size=0)
    assert "<figure>" not in render(replace(found, segments=nothing))


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not the folder of a run"):
        collect(tmp_path)


def test_a_plan_that_cannot_be_read_stops_the_report(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("version = 2", encoding="utf-8")
    with pytest.raises(PlanError):
        collect(tmp_path)


def test_a_plan_that_is_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").mkdir()
    with pytest.raises(StorageError):
        collect(tmp_path)


def test_metrics_of_another_form_are_refused_rather_than_shown(run: Path, copy_of: CopyOf) -> None:
    copy = copy_of(run)
    (copy / "metrics.json").write_text('{"cost_ratio": "very good"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.json"):
        collect(copy)


def test_reading_facts_loads_no_plotting_library() -> None:
    code = "import sys, fedseg.report.facts; sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("approval", "words"),
    [
        ({"officers": ["ann", "bob"], "automatic": False}, "with the signatures of ann and bob"),
        ({"officers": [], "automatic": True}, "by the terms of its policy for the requester, without an officer"),
        ({"officers": [], "automatic": False}, "at its own computer: its policy names no officers"),
    ],
)
def test_the_report_says_whose_word_an_approval_is(approval: dict[str, Json], words: str) -> None:
    assert whose_word(approval) == words


def test_an_approval_without_officers_is_called_so(facts: ReportFacts) -> None:
    assert {unit.approved_by for unit in facts.units} == {"at its own computer: its policy names no officers"}
