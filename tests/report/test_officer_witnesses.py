"""The report says of each unit who has witnessed its ledger, how far and when, as its cosignatures show and no further."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedseg.audit.archive import Member, Role, pack
from fedseg.cli.main import run_command
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.node.witnessing import COSIGNED_FILE
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.model import OfficerReport
from fedseg.report.officer.pack import Question, check, make, write
from tests.cosigned_evidence import cosigned_run, cosigned_server
from tests.report.test_officer_figures import Page
from tests.small_federation import SmallFederation

ALL = Question(None, {}, None, None)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """Not to be written to."""
    return cosigned_run(tmp_path_factory.mktemp("witnessed") / "federation")


@pytest.fixture(scope="module")
def members(ended: SmallFederation) -> tuple[Member, ...]:
    return gather([ended.server.path, *(home.path for home in ended.homes)])


def page_of(files: dict[str, bytes]) -> Page:
    return Page(files["report.html"].decode())


def changed(members: tuple[Member, ...], unit: str, change: Callable[[bytes], bytes]) -> tuple[Member, ...]:
    name = f"units/{unit}/{COSIGNED_FILE}"
    return tuple(replace(one, data=change(one.data)) if one.name == name else one for one in members)


def without(members: tuple[Member, ...], *units: str) -> tuple[Member, ...]:
    return tuple(one for one in members if one.name not in {f"units/{unit}/{COSIGNED_FILE}" for unit in units})


def without_servers(members: tuple[Member, ...]) -> tuple[Member, ...]:
    return tuple(one for one in members if one.name != "server/cosigned.note")


def test_each_unit_has_its_row_of_who_has_seen_how_much_and_when(
    ended: SmallFederation, members: tuple[Member, ...]
) -> None:
    report, files = make(members, ALL)
    page = page_of(files)

    assert report.witnessed
    assert "The log is witnessed As many witnesses as its policy asks for have cosigned each release" in page.words
    rows = {row[0]: row[1:] for row in page.rows("Witnesses")}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    for home, others in zip(ended.homes, (("south", "west"), ("north", "west"), ("north", "south")), strict=True):
        size, covered = len(read_ledger(home.path / "ledger.db").entries), _stated(home.path)
        asked, cosigned, entries, _ = rows[home.settings.unit]
        assert asked == f"2 of {', '.join(others)}"
        assert re.findall(r"(\w+), (\S+) \d\d:\d\d", cosigned) == [(other, today) for other in others]
        assert entries == f"{covered} of {size}"
    document = json.loads(files["report.json"])
    north = next(one for one in document["log"] if one["name"] == "north")
    assert (north["cosigned_by"], north["witnessing"]["quorum"]) == (["south", "west"], 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", north["witnessing"]["witnesses"][0]["at"])


def test_the_releases_that_are_not_covered_are_those_behind_the_checkpoint(
    ended: SmallFederation, members: tuple[Member, ...]
) -> None:
    _, files = make(members, ALL)

    rows = {row[0]: row[-1] for row in page_of(files).rows("Witnesses")}

    for home in ended.homes:
        entries = read_ledger(home.path / "ledger.db").entries
        behind = [one for one in entries if one.kind == "release" and one.seq >= _stated(home.path)]
        assert rows[home.settings.unit] == str(len(behind))


def _stated(home: Path) -> int:
    return int((home / COSIGNED_FILE).read_text("utf-8").splitlines()[1])


def test_a_unit_whose_cosignatures_are_not_here_is_named_and_waited_for(members: tuple[Member, ...]) -> None:
    report, files = make(without(members, "south"), ALL)
    page = page_of(files)

    assert (report.verified, report.witnessed) == (True, False)
    assert "Not all of the log is witnessed Not witnessed as far as this evidence shows, or not all" in page.words
    (south,) = (row for row in page.rows("Witnesses") if row[0] == "south")
    assert (south[2], south[3].partition(" ")[0], south[4]) == ("nobody", "0", "3")
    (waiting,) = (one for one in report.waiting if "witnesses" in one.what)
    assert waiting.unit == "south"
    assert "its policy asks for 2 of north, west, and no cosignature of theirs is here" in waiting.what


def test_none_of_them_is_no_witness(members: tuple[Member, ...]) -> None:
    report, files = make(without_servers(without(members, "north", "south", "west")), ALL)

    assert not report.witnessed
    assert "No witness In this evidence nobody but its owner has signed any ledger. So an owner" in page_of(files).words
    assert [row[2] for row in page_of(files).rows("Witnesses")] == ["nobody"] * 3


@pytest.mark.parametrize("change", [lambda note: note[:-9], lambda _: b"\xff", lambda _: b""], ids=range(3))
def test_what_counts_for_nothing_is_said_on_the_page(
    members: tuple[Member, ...], change: Callable[[bytes], bytes]
) -> None:
    report, files = make(changed(members, "west", change), ALL)

    assert (report.verified, report.witnessed) == (True, False)
    assert "What lies beside the ledger of west as a cosigned checkpoint counts for nothing: " in page_of(files).words


@pytest.mark.parametrize(("more", "code"), [(0, "L15-fork"), (3, "L13-shorter")])
def test_a_ledger_that_its_own_key_contradicts_fails_and_gives_no_figures(
    ended: SmallFederation, members: tuple[Member, ...], more: int, code: str
) -> None:
    raw, key = read_ledger(ended.home("north").path / "ledger.db"), ended.home("north").key
    other = sign_checkpoint(Checkpoint(raw.origin, len(raw.entries) + more, bytes(32)), key)

    report, files = make(changed(members, "north", lambda _: other.encode()), ALL)

    assert [(one.code, one.where) for one in report.failures] == [(code, "units/north/ledger.txt")]
    assert "Rely on nothing in it" in page_of(files).words
    assert report.units == ()


def test_what_units_witnesses_have_signed_of_the_servers_ledger_is_said(
    ended: SmallFederation, members: tuple[Member, ...], tmp_path: Path
) -> None:
    server, others = Member("server/cosigned.note", Role.COSIGNED, b""), without_servers(members)
    note = (cosigned_server(ended, tmp_path, "north", "west") / COSIGNED_FILE).read_bytes()

    report, files = make((*others, replace(server, data=note)), ALL)
    damaged, _ = make((*others, server), ALL)
    absent, _ = make(others, ALL)

    assert report.log[0].cosigned_by == ("fedseg/witness/west", "fedseg/witness/north")
    (row,) = (row for row in page_of(files).rows("Witnesses") if row[0] == "server")
    entries = report.log[0].entries
    assert (row[1], row[3:]) == ("\N{EN DASH}", [f"{entries} of {entries}", "\N{EN DASH}"])
    assert row[2] == "fedseg/witness/west, 2026-11-23 09:00; fedseg/witness/north, 2026-11-23 09:00"
    assert (damaged.verified, damaged.log[0].witnesses) == (True, "no witness")
    assert any("of server as a cosigned checkpoint counts for nothing" in one for one in damaged.remarks)
    assert (absent.log[0].witnesses, absent.log[0].cosigned_by) == ("no witness", ())


def test_a_strangers_signature_witnesses_nothing(ended: SmallFederation, members: tuple[Member, ...]) -> None:
    raw = read_ledger(ended.home("north").path / "ledger.db")
    other = sign_checkpoint(Checkpoint(raw.origin, len(raw.entries), raw.history().root()), SigningKey.generate())

    report, _ = make(changed(members, "north", lambda _: other.encode()), ALL)

    assert (report.verified, report.witnessed) == (True, False)


def test_a_checkpoint_of_no_ledger_here_fails(members: tuple[Member, ...]) -> None:
    stray = Member("units/east/cosigned.note", Role.COSIGNED, b"")

    report, _ = make((*members, stray), ALL)

    assert [(one.code, one.where) for one in report.failures] == [("L12-stray", "units/east/cosigned.note")]


def test_a_report_with_other_cosignatures_than_its_own_is_found(members: tuple[Member, ...], tmp_path: Path) -> None:
    write(members, ALL, tmp_path / "desk")
    assert check(tmp_path / "desk").witnessed
    shutil.copytree(tmp_path / "desk", tmp_path / "forged")
    (tmp_path / "forged" / "bundle.zip").write_bytes(pack(without(members, "south")))
    with pytest.raises(VerificationError):
        check(tmp_path / "forged")


def test_the_command_says_how_many_units_are_witnessed(
    members: tuple[Member, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for taken, said in (((), "3 of 3 units witnessed"), (("west",), "2 of 3 units witnessed"),
                        (("north", "south", "west"), "no witness")):  # fmt: skip
        file = tmp_path / f"{len(taken)}.zip"
        file.write_bytes(pack(without(members, *taken)))
        assert run_command(["report", "--from", str(file), "--out", str(tmp_path / f"desk-{len(taken)}")]) == 0
        assert f"log        intact: 4 ledgers; {said}\n" in capsys.readouterr().out


def test_a_ledger_nobody_asks_about_is_not_called_witnessed(fortnight: Path) -> None:
    report: OfficerReport = make(gather([fortnight]), ALL)[0]

    assert not report.witnessed
    assert [one.witnessing.role for one in report.log] == ["server", "unit", "unit", "unit"]
    assert {one.witnesses for one in report.log} == {"no witness", "no witness: its policy says nothing of witnesses"}
