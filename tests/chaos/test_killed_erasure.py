"""An erasure is killed at any point: its people are not counted from its first commit on, and asked again it is finished."""

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fedseg.audit.certificate import verify_certificate
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.erasure import erase, proven_certificate
from fedseg.node.rights.requests import Order
from fedseg.node.source import subject_key
from fedseg.policy.document import load_policy
from fedseg.policy.rights import Status
from tests.chaos.conftest import Point, Unit, run_in_process

RIGHTS = "fedseg.node.rights.register"
SOURCE = "fedseg.node.rights.source_erasure"
CONSENT = "fedseg.node.consent.register:connect"

BEFORE_SUPPRESSION = [
    Point("register opened", f"{RIGHTS}:connect"),
    Point("request about to be written", f"{RIGHTS}:connect", sql="INSERT INTO request"),
    Point("request noted", f"{RIGHTS}:RightsRegister.add"),
    Point("person about to be listed", f"{RIGHTS}:connect", sql="INSERT INTO suppression"),
    Point("request about to be begun", f"{RIGHTS}:connect", sql="UPDATE request"),
]
AFTER_SUPPRESSION = [
    Point("person listed", f"{RIGHTS}:RightsRegister.change"),
    Point("request begun", "fedseg.node.rights.erasure:begin"),
    Point("rounds waited for", "fedseg.node.home:NodeHome.wait_for_rounds"),
    Point("draft made", f"{SOURCE}:_make_alike"),
    Point("draft written", f"{SOURCE}:_write_csv"),
    Point("source replaced", f"{SOURCE}:_put_in_place"),
    Point("draft gone", "fedseg.node.rights.erasure:erase_rows"),
    Point("consent about to go", CONSENT, sql="DELETE FROM event"),
    Point("consent about to be gone", CONSENT, sql="COMMIT"),
    Point("consent gone", "fedseg.node.consent.register:Register.forget_subjects"),
    Point("files searched", "fedseg.node.rights.erasure:find_leftovers"),
    Point("first certificate signed", "fedseg.node.rights.erasure:sign_certificate"),
    Point("evidence about to be written", f"{RIGHTS}:connect", sql="INSERT INTO evidence"),
    Point("certificates about to be written", f"{RIGHTS}:connect", sql="INSERT INTO certificate"),
]
AT_THE_END = Point("all written", f"{RIGHTS}:RightsRegister.complete")


def people_of(home: Path) -> list[bytes]:
    """Two customers of the unit."""
    lines = (home / "LOCAL/customers.csv").read_bytes().splitlines()
    return [line.partition(b",")[0].strip(b'"') for line in lines[2:4]]


def take(home: Path, people: list[bytes], now: datetime) -> bytes:
    erase(NodeHome.open(home), Order(people, "T-1"), now)
    return b"done"


def counted(home: NodeHome, people: list[bytes], now: datetime) -> list[bool]:
    policy = load_policy(home.policy_document())
    with home.register() as register:
        decisions = decide_now(home, register, policy, next(iter(policy.purposes)), now)
    keys = [subject_key(one, home.subject_secret) for one in people]
    return [bool(one) for one in decisions.allow(pa.array(keys, pa.binary(16)))]


def events(home: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "LOCAL/register.db")) as connection:
        return connection.execute("SELECT * FROM event ORDER BY 1, 2, 3, 4").fetchall()


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "listed"),
    [(point, point not in BEFORE_SUPPRESSION) for point in (*BEFORE_SUPPRESSION, *AFTER_SUPPRESSION, AT_THE_END)],
    ids=lambda value: value.name.replace(" ", "-") if isinstance(value, Point) else None,
)
def test_a_killed_erasure_counts_nobody_it_has_listed_and_is_finished_when_asked_again(
    point: Point, listed: bool, new_unit: Callable[[], Unit]
) -> None:
    path, now = new_unit().home, datetime.now(UTC)
    home, people = NodeHome.open(path), people_of(path)
    secret = home.subject_secret
    keys = {subject_key(one, secret) for one in people}
    lines = (path / "LOCAL/customers.csv").read_bytes().splitlines(keepends=True)
    others = [row for row in events(path) if row[0] not in keys]
    before = counted(home, people, now)
    assert any(before)

    killed = run_in_process(lambda: take(path, people, now), point)

    assert killed.code == -signal.SIGKILL, f"the process never came to {point.where}"
    assert counted(home, people, now) == ([False, False] if listed else before)
    assert take(path, people, now) == b"done"
    assert counted(home, people, now) == [False, False]
    assert (path / "LOCAL/customers.csv").read_bytes().splitlines(keepends=True) == [*lines[:2], *lines[4:]]
    assert events(path) == others
    assert not list((path / "LOCAL").glob(".*"))
    log_days(home, now + timedelta(days=1))
    with home.rights() as rights:
        requests = rights.requests()
    # Asked again after the end, it is another request with an answer of its own.
    assert [one.request.status for one in requests] == [Status.FULFILLED] * (4 if point is AT_THE_END else 2)
    for one in requests:
        verify_certificate(proven_certificate(home, one.request.id), [home.key.public])


@pytest.mark.chaos
@pytest.mark.parametrize(
    "point",
    [
        Point("tree about to be written", f"{RIGHTS}:connect", sql="INSERT INTO batch"),
        Point("tree written", f"{RIGHTS}:RightsRegister.batch_root"),
        Point("entry written", "fedseg.privacy.account:PrivacyAccount.add_rights_batch"),
    ],
    ids=lambda point: point.name.replace(" ", "-"),
)
def test_a_day_that_is_logged_by_a_killed_process_is_logged_once_with_all_its_certificates(
    point: Point, new_unit: Callable[[], Unit]
) -> None:
    path, now = new_unit().home, datetime.now(UTC)
    home = NodeHome.open(path)
    (one, other) = erase(home, Order(people_of(path), "T-1"), now)

    def log() -> bytes:
        log_days(NodeHome.open(path), now + timedelta(days=1))
        return b"done"

    assert run_in_process(log, point).code == -signal.SIGKILL
    log()
    with home.ledger() as ledger:
        assert [entry.kind for entry in ledger.entries()].count("rights_batch") == 1
    for request in (one, other):
        found = verify_certificate(proven_certificate(home, request.id), [home.key.public])
        assert found.period == now.date().isoformat()
