"""A sweep is killed at any point: nobody's decision changes, and the next one finishes it and says so."""

import json
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.retention import RECORDS, sweep
from fedseg.node.source import subject_key
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.document import load_policy
from tests.chaos.conftest import Point, Unit, run_in_process
from tests.chaos.test_killed_erasure import counted, events, people_of

RETENTION = "fedseg.node.retention"
CUSTOMERS = "LOCAL/customers.csv"
LATER = timedelta(days=1200)

POINTS = [
    Point("looked", f"{RETENTION}:_find"),
    Point("record begun", f"{RETENTION}:_begin"),
    Point("erased people removed", f"{RETENTION}:remove_returned"),
    Point("draft written", "fedseg.node.rights.source_erasure:_write_csv"),
    Point("rows gone", f"{RETENTION}:erase_rows"),
    Point("events about to go", "fedseg.node.consent.register:connect", sql="DELETE FROM event", call=4),
    Point("events about to be gone", "fedseg.node.consent.register:connect", sql="COMMIT", call=8),
    Point("events gone", "fedseg.node.consent.register:Register.forget_events"),
    Point("keys ended", f"{RETENTION}:shred_keys"),
    Point("backups closed", f"{RETENTION}:close_backups"),
    Point("requests ended", f"{RETENTION}:conclude"),
    Point("removed", f"{RETENTION}:_remove"),
    Point("record about to be written", "fedseg.node.home:NodeHome.keep_local", when="before", call=2),
    Point("record written", "fedseg.node.home:NodeHome.keep_local", call=2),
    Point("done", f"{RETENTION}:_finish"),
]


def prepare(home: NodeHome, now: datetime) -> list[bytes]:
    """One customer whose consent ended after it was renewed, another who renewed it; and a term for rows."""
    policy = (home.path / "policy.yaml").read_bytes()
    (home.path / "policy.yaml").write_bytes(policy.replace(b"retention: {", b"retention: {lapsed_days: 90, "))
    assert load_policy(home.policy_document()).retention.lapsed_days == 90
    gone, stays = people_of(home.path)
    purpose = next(iter(load_policy(policy).purposes))
    until = now + timedelta(days=36500)
    with home.register() as register:
        for who, kinds in ((gone, ("renewed", "withdrawn")), (stays, ("withdrawn", "explicit_refused", "renewed"))):
            key = subject_key(who, home.subject_secret)
            register.append_events(
                ConsentEvent(key, purpose, kind, at, at, until if kind == "renewed" else None, notice_version=1000)
                for at, kind in ((now + timedelta(seconds=place), kind) for place, kind in enumerate(kinds))
            )
    return [gone, stays]


def work(path: Path, now: datetime) -> bytes:
    sweep(NodeHome.open(path), now)
    return b"done"


@pytest.mark.chaos
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name.replace(" ", "-"))
def test_a_killed_sweep_changes_no_decision_and_is_finished_by_the_next(
    point: Point, new_unit: Callable[[], Unit], tmp_path: Path
) -> None:
    path, now = new_unit().home, datetime.now(UTC)
    home = NodeHome.open(path)
    people = prepare(home, now)
    later = now + LATER
    before = counted(home, people, later)
    undisturbed = Path(shutil.copytree(path, tmp_path / "undisturbed"))
    work(undisturbed, later)
    rows = (undisturbed / CUSTOMERS).read_bytes()
    assert [b'"%s",' % one in rows for one in people] == [False, True]

    killed = run_in_process(lambda: work(path, later), point)

    assert killed.code == -signal.SIGKILL, f"the process never came to {point.where}"
    assert counted(home, people, later) == before
    assert work(path, later + timedelta(seconds=1)) == b"done"
    assert counted(home, people, later) == before
    assert (path / CUSTOMERS).read_bytes() == (undisturbed / CUSTOMERS).read_bytes()
    assert events(path) == events(undisturbed)
    left = [row[2] for row in events(path) if row[0] == subject_key(people[1], home.subject_secret)]
    assert sorted(map(str, left)) == ["explicit_refused", "renewed"]
    assert not list((path / LOCAL).glob(".*"))
    records = [json.loads(one.read_bytes()) for one in sorted((path / LOCAL / RECORDS).iterdir())]
    # Every sweep that had begun stands in a record, its own or that of the next, with what it was to remove.
    told = [one for record in records for one in (record, *record["finished"])]
    begun = later if point is not POINTS[0] else later + timedelta(seconds=1)
    assert begun.isoformat() in [one["begun"] for one in told if one["ended"][0]["count"]]
