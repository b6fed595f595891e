"""A process dies at any point while a unit's key is replaced: the old key or the new one is in force, and all goes on."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fedseg.ledger.key_files import next_key_path
from fedseg.ledger.store import Ledger
from fedseg.node.approvals import approve, preflight
from fedseg.node.home import NodeHome
from fedseg.node.key_change import replace_key
from fedseg.plan import Plan, parse_plan
from tests.chaos.conftest import Child, Point, Unit, run_in_process

CONNECTIONS = "fedseg.ledger.store:connect"
FILES = "fedseg.ledger.key_files"

BEFORE_COMMIT = [
    Point("leftovers looked for", "fedseg.node.key_change:settle_keys"),
    Point("transaction begun", "fedseg.privacy.account:PrivacyAccount.state_in"),
    Point("key made", "fedseg.ledger.keys:SigningKey.generate"),
    Point("draft file still empty", "os:fdopen", "before"),
    Point("draft file written", "fedseg.ledger.keys:SigningKey.save"),
    Point("draft given away", "fedseg.node.home:NodeHome.hand_over"),
    Point("key in its waiting place", "pathlib:Path.hardlink_to"),
    Point("key saved", "fedseg.node.key_change:save_next_key"),
    Point("entry appended", "fedseg.ledger.journal:Transaction.change_key"),
    Point("checkpoint signed", "fedseg.ledger.store:note_over"),
    Point("entry about to be written", CONNECTIONS, sql="INSERT INTO leaf"),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
]
AFTER_COMMIT = [
    Point("committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"),
    Point("log moved into the main file", "fedseg.ledger.store:_write"),
    Point("about to take the old key's place", "pathlib:Path.replace", "before"),
    Point("in the old key's place", "pathlib:Path.replace"),
    Point("directory synced", f"{FILES}:sync_directory", call=2),
]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "committed"),
    [(point, point in AFTER_COMMIT) for point in BEFORE_COMMIT + AFTER_COMMIT],
    ids=[point.name.replace(" ", "-").replace("'", "") for point in BEFORE_COMMIT + AFTER_COMMIT],
)
def test_either_key_is_in_force_and_the_home_goes_on(
    point: Point, new_unit: Callable[[], Unit], *, committed: bool
) -> None:
    unit = new_unit()
    old = NodeHome.open(unit.home).key.public

    ended = run_in_process(lambda: replace(unit), point)

    assert ended.code == -9, "the process ended without coming to its point"
    assert [entry.kind for entry in unit.facts().raw.entries] == ["genesis", *["key_change"] * committed]
    home = NodeHome.open(unit.home)
    assert (home.key.public != old) == committed
    assert unit.facts().public_key == home.key.public
    if committed:
        preflight(home, renamed(unit), now=now())
    else:
        approve(home, unit.plan, unit.document, now=now())


@pytest.mark.chaos
@pytest.mark.parametrize("point", BEFORE_COMMIT + AFTER_COMMIT, ids=lambda point: str(point.name).replace(" ", "-"))
def test_the_same_command_once_more_leaves_one_key_and_no_trace(point: Point, new_unit: Callable[[], Unit]) -> None:
    unit = new_unit()
    run_in_process(lambda: replace(unit), point)
    changes = len(unit.facts().raw.entries)

    replace_key(NodeHome.open(unit.home), now=now())

    facts = unit.facts()
    assert facts.size == changes + 1
    home = NodeHome.open(unit.home)
    assert facts.public_key == home.key.public
    assert not next_key_path(home.key_file).exists()
    assert sorted(path.name for path in home.key_file.parent.iterdir()) == ["subjects.key", "unit.key"]
    with Ledger.open(home.path / "ledger.db", home.key) as ledger:
        assert len(ledger.entries()) == facts.size


@pytest.mark.chaos
def test_of_two_at_once_each_replaces_what_the_other_has_left(new_unit: Callable[[], Unit]) -> None:
    unit = new_unit()
    children = [Child.start(lambda: replace(unit)) for _ in range(2)]
    ended = [child.wait().code for child in children]

    assert 0 in ended
    facts = unit.facts()
    assert facts.size >= 2
    assert len(set(facts.keys)) == facts.size
    assert facts.public_key == NodeHome.open(unit.home).key.public


def replace(unit: Unit) -> bytes:
    return replace_key(NodeHome.open(unit.home), now=now()).new.raw


def renamed(unit: Unit) -> Plan:
    """The plan, made again for the unit's new key."""
    old = next(one for one in unit.plan.units if one.name == "north").public_key
    new = NodeHome.open(unit.home).key.public.to_text()
    return parse_plan(unit.document.replace(old.encode(), new.encode()))
