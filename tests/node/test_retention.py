"""What was kept long enough goes, with a record that names nobody; what the gate decides stays as it was."""

import json
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedseg.errors import PolicyError, VerificationError
from fedseg.node.backup.copies import back_up
from fedseg.node.backup.keys import month_keys
from fedseg.node.consent.register import DELIVERY_SCHEMA, Delivery, ImportNote
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.retention import RECORDS, Swept, sweep
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.requests import Order, receive, set_vetoes
from fedseg.node.source import subject_key
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent
from fedseg.policy.document import load_policy
from fedseg.policy.gate import Decisions
from fedseg.policy.purposes import Purpose
from fedseg.policy.rights import Right
from tests.node.test_erasure import dump, files_with
from tests.small_federation import CUSTOMERS_FILE, NOW, make_federation, policy_document

POLICY = policy_document().replace(
    b"raw_days: 730", b"raw_days: 730\n  lapsed_days: 100\n  suppression_days: 2000\n  backup_days: 30"
)
STATISTICS = Purpose.SEGMENT_STATISTICS
SOMEBODY = b"north-7"
RECORD_ID = "crm-record-8c1f"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A unit whose policy has every term, with thirty customers who agreed a month ago."""
    return make_federation(tmp_path_factory.mktemp("retention") / "f", {"north": 30}, policy=POLICY).home("north")


@pytest.fixture
def home(original: NodeHome, tmp_path: Path) -> NodeHome:
    return NodeHome.open(Path(shutil.copytree(original.path, tmp_path / "north")))


def key(home: NodeHome, identifier: bytes = SOMEBODY) -> bytes:
    return subject_key(identifier, home.subject_secret)


def said(
    home: NodeHome, kind: str, when: datetime, *, who: bytes = SOMEBODY, purpose: str = STATISTICS
) -> ConsentEvent:
    until = when + timedelta(days=3000) if kind in {"given", "renewed"} else None
    event = ConsentEvent(key(home, who), purpose, kind, when, when, until, notice_version=3)
    with home.register() as register:
        register.append_events([event])
    return event


def counts(swept: Swept) -> dict[str, int]:
    return {one.what: one.count for one in swept.ended if one.count}


def subjects_of(decisions: Decisions) -> list[bytes]:
    return [one for subjects, _ in decisions.pieces() for one in subjects.to_pylist()]


def decided(home: NodeHome, now: datetime) -> Decisions:
    policy = load_policy(home.policy_document())
    with home.register() as register:
        return decide_now(home, register, policy, STATISTICS, now)


def record(swept: Swept) -> dict[str, Any]:
    assert swept.record is not None
    found: dict[str, Any] = json.loads(swept.record.read_bytes())
    return found


def test_rows_go_so_many_days_after_the_consent_has_ended_and_the_consent_stays_on_record(home: NodeHome) -> None:
    said(home, "withdrawn", NOW)
    lines = (home.path / CUSTOMERS_FILE).read_bytes().splitlines(keepends=True)
    assert counts(sweep(home, NOW + timedelta(days=99))) == {}
    assert counts(sweep(home, NOW + timedelta(days=100))) == {"customers without a consent": 1}
    assert (home.path / CUSTOMERS_FILE).read_bytes() == b"".join(
        one for one in lines if not one.startswith(b"north-7,")
    )
    assert not files_with(home, SOMEBODY + b",")
    with home.register() as register:
        assert [one["kind"] for one in register.events_of(key(home))] == ["given", "withdrawn"]


def test_without_a_term_for_them_rows_stay(home: NodeHome) -> None:
    (home.path / "policy.yaml").write_bytes(POLICY.replace(b"  lapsed_days: 100\n", b""))
    said(home, "withdrawn", NOW)
    assert "customers without a consent" not in {one.what for one in sweep(home, NOW + timedelta(days=700)).ended}
    assert files_with(home, SOMEBODY + b",")


def test_who_waits_for_an_answer_or_asked_for_restriction_keeps_their_row(home: NodeHome) -> None:
    asking, held, later = b"north-8", b"north-9", NOW + timedelta(days=150)
    for who in (asking, held):
        said(home, "withdrawn", NOW, who=who)
    receive(home, Order([asking], "T-1"), Right.ACCESS, NOW)
    set_vetoes(home, Order([held], "T-2"), Right.RESTRICTION, NOW)
    assert counts(sweep(home, later)) == {}


def test_what_was_followed_long_ago_goes_and_no_decision_changes(home: NodeHome) -> None:
    for place, kind in enumerate(["renewed", "withdrawn", "given"]):
        said(home, kind, NOW + timedelta(days=place))
    said(home, "objection", NOW, who=b"north-8", purpose=EVERY_PURPOSE)
    said(home, "given", NOW + timedelta(days=5), who=b"north-8")
    later = NOW + timedelta(days=5 + 1095)
    before = decided(home, later)
    assert counts(sweep(home, later)) == {"events that were followed by others": 3}
    after = decided(home, later)
    assert subjects_of(after) == subjects_of(before)
    assert np.array_equal(after.codes, before.codes)
    with home.register() as register:
        # The withdrawal was the last word about explicit consent, too.
        assert [one["kind"] for one in register.events_of(key(home))] == ["withdrawn", "given"]
        assert [one["kind"] for one in register.events_of(key(home, b"north-8"))] == ["objection", "given"]


def test_no_file_holds_what_was_removed(home: NodeHome) -> None:
    event = ConsentEvent(key(home), STATISTICS, "expired", NOW, NOW)
    cells = [event.subject, event.purpose, event.kind, NOW, NOW, None, 0, "crm", RECORD_ID, "", "", ""]
    batch = pa.record_batch(
        [pa.array([cell], one.type) for cell, one in zip(cells, DELIVERY_SCHEMA, strict=True)], schema=DELIVERY_SCHEMA
    )
    with home.register() as register:
        note = ImportNote("one", NOW, "crm", "m" * 64, "f" * 64, 1, 1, 0)
        register.take_in(Delivery(note, lambda: iter([batch])))
    said(home, "given", NOW + timedelta(days=1))
    assert files_with(home, RECORD_ID.encode()) == {"register.db"}
    sweep(home, NOW + timedelta(days=1 + 1095))
    assert not files_with(home, RECORD_ID.encode())


def test_a_second_sweep_finds_nothing_more(home: NodeHome) -> None:
    for place, kind in enumerate(["renewed", "withdrawn"]):
        said(home, kind, NOW + timedelta(days=place))
    later = NOW + timedelta(days=2000)
    assert counts(sweep(home, later)) == {"customers without a consent": 1, "events that were followed by others": 2}
    stores = dump(home), (home.path / CUSTOMERS_FILE).read_bytes()
    assert counts(sweep(home, later + timedelta(seconds=1))) == {}
    assert (dump(home), (home.path / CUSTOMERS_FILE).read_bytes()) == stores


def test_evidence_of_an_erasure_is_kept_as_long_as_the_list_of_erased_people(home: NodeHome) -> None:
    erase(home, Order([SOMEBODY], "T-1"), NOW)
    assert counts(sweep(home, NOW + timedelta(days=2000))) == {}
    swept = sweep(home, NOW + timedelta(days=2001))
    assert counts(swept) == {"evidence of erasures": 1}
    assert {one.what: one.rule for one in swept.ended}["evidence of erasures"] == "suppression_days"


def test_without_a_term_for_that_list_it_is_kept_as_long_as_consents(home: NodeHome) -> None:
    (home.path / "policy.yaml").write_bytes(POLICY.replace(b"  suppression_days: 2000\n", b""))
    erase(home, Order([SOMEBODY], "T-1"), NOW)
    assert counts(sweep(home, NOW + timedelta(days=1095))) == {}
    swept = sweep(home, NOW + timedelta(days=1096))
    assert {one.what: one.rule for one in swept.ended if one.count} == {"evidence of erasures": "consent_evidence_days"}


def test_keys_of_backups_end_and_so_do_backups_in_the_home_that_they_opened(home: NodeHome, tmp_path: Path) -> None:
    (home.path / LOCAL / "copies").mkdir()
    mine, other, elsewhere = home.path / LOCAL / "copies/june", home.path / LOCAL / "july", tmp_path / "june"
    for path in (mine, elsewhere):
        back_up(home, path, NOW)
    back_up(home, other, NOW + timedelta(days=30))
    assert counts(sweep(home, datetime(2025, 7, 30, tzinfo=NOW.tzinfo))) == {}
    swept = sweep(home, datetime(2025, 7, 31, tzinfo=NOW.tzinfo))
    assert counts(swept) == {"keys of backups": 1, "backups without a key": 1}
    assert [one.month for one in month_keys(home)] == ["2025-07"]
    assert [path.exists() for path in (mine, other, elsewhere)] == [False, True, True]


def test_reports_of_imports_and_records_of_sweeps_end_with_the_consents_they_are_about(home: NodeHome) -> None:
    first = sweep(home, NOW).record
    assert first is not None
    report = home.path / LOCAL / "imports" / "0123456789abcdef.refused.csv"
    report.parent.mkdir()
    report.write_bytes(b"line,reason\n")
    os.utime(report, (NOW.timestamp(), NOW.timestamp()))
    assert counts(sweep(home, NOW + timedelta(days=1095))) == {}
    assert counts(sweep(home, NOW + timedelta(days=1095, seconds=1))) == {
        "reports of imports": 1,
        "records of sweeps": 1,
    }
    assert (first.exists(), report.exists()) == (False, False)


def test_the_record_says_by_which_rule_and_names_nobody(home: NodeHome) -> None:
    said(home, "withdrawn", NOW)
    swept = sweep(home, NOW + timedelta(days=100))
    facts = record(swept)
    assert (facts["unit"], facts["policy_sha256"]) == ("north", load_policy(POLICY).digest)
    assert facts["ended"][0] == {
        "what": "customers without a consent",
        "rule": "lapsed_days",
        "before": NOW.date().isoformat(),
        "count": 1,
    }
    assert (facts["still_named_in"], facts["finished"]) == ([], [])
    assert swept.record is not None
    assert swept.record.stat().st_mode & 0o777 == 0o600
    data = swept.record.read_bytes()
    assert SOMEBODY not in data
    assert key(home).hex().encode() not in data


def test_looking_first_removes_nothing_and_writes_nothing(home: NodeHome) -> None:
    said(home, "withdrawn", NOW)
    files = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    looked = sweep(home, NOW + timedelta(days=2000), dry_run=True)
    assert (counts(looked)["customers without a consent"], looked.record) == (1, None)
    assert {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()} == files


def test_a_file_that_still_names_somebody_is_told_of_and_the_rest_is_done(home: NodeHome) -> None:
    said(home, "withdrawn", NOW)
    note = home.path / LOCAL / "notes.txt"
    note.write_bytes(b"called " + SOMEBODY)
    with pytest.raises(VerificationError, match=r"notes\.txt"):
        sweep(home, NOW + timedelta(days=100))
    (written,) = (home.path / LOCAL / RECORDS).iterdir()
    assert json.loads(written.read_bytes())["still_named_in"] == [str(note)]
    assert SOMEBODY + b"," not in (home.path / CUSTOMERS_FILE).read_bytes()
    assert counts(sweep(home, NOW + timedelta(days=100, seconds=1))) == {}


def test_who_was_erased_is_removed_again(home: NodeHome) -> None:
    erase(home, Order([SOMEBODY], "T-1"), NOW)
    said(home, "given", NOW)
    sweep(home, NOW)
    with home.register() as register:
        assert not register.events_of(key(home))


def test_a_unit_without_a_policy_ends_nothing(home: NodeHome) -> None:
    (home.path / "policy.yaml").unlink()
    with pytest.raises(PolicyError):
        sweep(home, NOW)
