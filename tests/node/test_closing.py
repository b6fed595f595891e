"""When no backup with an erased person can be read any more, the unit says so, signed and bound to its ledger."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.audit.certificate import CertificateFacts, verify_certificate
from fedseg.certificate import SALT_BYTES, ClosingFacts, ProvenCertificate, commitment, sign_closing
from fedseg.errors import VerificationError
from fedseg.node.backup.copies import back_up
from fedseg.node.backup.keys import month_keys
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.retention import sweep
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.closing import close_backups
from fedseg.node.rights.erasure import erase, proven_certificate
from fedseg.node.rights.register import StoredCertificate
from fedseg.node.rights.requests import Order
from tests.small_federation import NOW, make_federation, policy_document

POLICY = policy_document().replace(b"raw_days: 730", b"raw_days: 730\n  backup_days: 30")
LAST_DAY = datetime(2025, 7, 30, 12, tzinfo=UTC)
"""On which the key of the month of `NOW` may be there."""
GONE = LAST_DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A unit whose policy keeps backups for 30 days."""
    return make_federation(tmp_path_factory.mktemp("closing") / "f", {"north": 30}, policy=POLICY).home("north")


@pytest.fixture
def home(original: NodeHome, tmp_path: Path) -> NodeHome:
    return NodeHome.open(Path(shutil.copytree(original.path, tmp_path / "north")))


def erased(home: NodeHome, who: bytes = b"north-7", now: datetime = NOW) -> str:
    (request,) = erase(home, Order([who], "T-1"), now)
    return request.id


def swept(home: NodeHome, now: datetime) -> None:
    """Swept, and every day up to then logged."""
    sweep(home, now)
    log_days(home, now + timedelta(days=1))


def checked(home: NodeHome, request: str) -> CertificateFacts:
    return verify_certificate(proven_certificate(home, request), [home.key.public])


def test_a_certificate_is_closed_with_the_last_key_that_opens_a_copy_of_the_person(
    home: NodeHome, tmp_path: Path
) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    swept(home, LAST_DAY)
    assert checked(home, request).closed is None
    swept(home, GONE)
    assert month_keys(home) == []
    assert checked(home, request).closed == "2025-07-31"


def test_the_statement_comes_when_its_day_is_over(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    log_days(home, GONE)
    sweep(home, GONE)
    assert checked(home, request).closed is None
    log_days(home, GONE + timedelta(days=1))
    assert checked(home, request).closed == "2025-07-31"


def test_a_key_of_a_later_month_keeps_nobody_waiting_and_one_of_an_earlier_does(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    early = erased(home)
    back_up(home, tmp_path / "july", NOW + timedelta(days=30))
    late = erased(home, b"north-8", NOW + timedelta(days=31))
    swept(home, GONE)
    assert [one.month for one in month_keys(home)] == ["2025-07"]
    assert (checked(home, early).closed, checked(home, late).closed) == ("2025-07-31", None)


def test_without_backups_there_is_nothing_to_close(home: NodeHome) -> None:
    request = erased(home)
    swept(home, GONE)
    assert checked(home, request).closed is None
    assert json.loads(proven_certificate(home, request))["version"] == 1


def test_asked_again_it_says_the_same(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    swept(home, GONE)
    before = ProvenCertificate.from_bytes(proven_certificate(home, request)).closing
    assert close_backups(home, GONE + timedelta(days=9)) == 0
    assert ProvenCertificate.from_bytes(proven_certificate(home, request)).closing == before


def test_it_names_nobody(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    swept(home, GONE)
    assert b"north-7" not in proven_certificate(home, request)


def test_a_statement_of_another_erasure_or_of_no_kind_is_refused(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    one, other = erased(home), erased(home, b"north-8")
    swept(home, GONE)
    found, foreign = (ProvenCertificate.from_bytes(proven_certificate(home, each)) for each in (one, other))
    for forged in (foreign.closing, replace(found, closing=None)):
        assert forged is not None
        with pytest.raises(VerificationError, match=r"another certificate|closing statement states"):
            verify_certificate(replace(found, closing=forged).to_bytes(), [home.key.public])


@pytest.mark.parametrize("day", ["2025-05-31", "2025-08-01"])
def test_a_statement_of_a_day_before_the_erasure_or_after_its_entry_is_refused(
    home: NodeHome, tmp_path: Path, day: str
) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    with home.rights() as rights:
        (stored,) = rights.not_closed()
        facts = ClosingFacts(request_id=request, unit="north", closed=day, software="fedseg 1")
        envelope, salt = sign_closing(facts, stored.envelope, home.key), bytes(SALT_BYTES)
        rights.close_backups([StoredCertificate(request, NOW.date(), envelope, salt, commitment(envelope, salt))])
    log_days(home, NOW + timedelta(days=1))
    with pytest.raises(VerificationError, match="do not follow each other"):
        checked(home, request)


def test_a_statement_with_another_salt_is_not_in_the_ledger(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    swept(home, GONE)
    found = ProvenCertificate.from_bytes(proven_certificate(home, request))
    assert found.closing is not None
    forged = replace(found, closing=replace(found.closing, salt=bytes(SALT_BYTES)))
    with pytest.raises(VerificationError, match="closing statement's commitment"):
        verify_certificate(forged.to_bytes(), [home.key.public])


def test_a_register_of_an_earlier_version_can_hold_statements(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    request = erased(home)
    with closing(sqlite3.connect(home.path / LOCAL / RIGHTS_FILE)) as connection:
        connection.executescript("DROP TABLE closing; PRAGMA user_version = 2;")
    swept(home, GONE)
    assert checked(home, request).closed == "2025-07-31"
