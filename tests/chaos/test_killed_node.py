"""A unit's process dies at any point between a request and its reply: no charge without bytes, no bytes without charge."""

import shutil
import signal
from collections.abc import Callable

import pytest

from fedseg.federation.wire import encode_unavailable
from tests.chaos.conftest import Point, Unit, run_in_process

APP = "fedseg.federation.client_app"
CONTRIBUTE = "fedseg.node.contribute"
CONNECTIONS = "fedseg.ledger.store:connect"

BEFORE_COMMIT = [
    Point("message received", f"{APP}:_Asking.release", "before"),
    Point("request read", f"{APP}:parse_request"),
    Point("plan read", f"{CONTRIBUTE}:approved_plan", call=2),
    Point("terms fixed", f"{CONTRIBUTE}:_terms"),
    Point("memory searched", f"{CONTRIBUTE}:recall"),
    Point("account checked", "fedseg.privacy.state:AccountState.require_step"),
    Point("noise drawn", "fedseg.privacy.noise:Noise.draw"),
    Point("consent folded", "fedseg.node.gate:fold"),
    Point("gate salt half written", "fedseg.node.consent.register:connect", sql="COMMIT", call=2),
    Point("gate salt written", "fedseg.node.consent.register:Register.gate_salt"),
    Point("source opened", f"{CONTRIBUTE}:open_source"),
    Point("gate passed", f"{CONTRIBUTE}:admit"),
    Point("first batch read", "fedseg.clustering.encode:_key_words", "before"),
    Point("features encoded", f"{CONTRIBUTE}:encode"),
    Point("first customers bounded", "fedseg.clustering.statistics:customer_vectors"),
    Point("statistic summed", f"{CONTRIBUTE}:summarize"),
    Point("transaction about to begin", CONNECTIONS, sql="BEGIN IMMEDIATE"),
    Point("transaction begun", "fedseg.privacy.account:PrivacyAccount.state_in", "before"),
    Point("account checked again", "fedseg.privacy.state:AccountState.require_step", call=2),
    Point("noise added", "fedseg.privacy.release:_signed", "before"),
    Point("bytes signed", "fedseg.privacy.release:_signed"),
    Point("entry appended", "fedseg.ledger.journal:Transaction.append"),
    Point("checkpoint signed", "fedseg.ledger.store:note_over"),
    Point("entry about to be written", CONNECTIONS, sql="INSERT INTO leaf"),
    Point("bytes about to be written", CONNECTIONS, sql="INSERT INTO payload"),
    Point("checkpoint about to be written", CONNECTIONS, sql="INSERT INTO checkpoint"),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
]
AFTER_COMMIT = [
    Point("committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"),
    Point("log moved into the main file", "fedseg.ledger.store:_write"),
    Point("transaction left", "fedseg.ledger.store:Ledger._commit"),
    Point("release made", f"{CONTRIBUTE}:release"),
    Point("reply about to be encoded", "fedseg.federation.wire:encode", "before"),
    Point("reply encoded", "fedseg.federation.wire:encode"),
    Point("reply about to leave", f"{APP}:wait_for_slot"),
]
TIMES = 5
SOAK_TIMES = 100

every_point = pytest.mark.parametrize(
    ("point", "committed"),
    [(point, point in AFTER_COMMIT) for point in BEFORE_COMMIT + AFTER_COMMIT],
    ids=[point.name.replace(" ", "-") for point in BEFORE_COMMIT + AFTER_COMMIT],
)


def survives_being_killed_at(point: Point, unit: Unit, *, committed: bool) -> None:
    request = unit.request()

    killed = run_in_process(lambda: unit.ask(request), point)

    assert killed.code == -signal.SIGKILL, f"the process never came to {point.where}"
    assert killed.output == b""
    facts = unit.facts()
    held = unit.released(facts)
    assert len(held) == len(facts.releases) == int(committed)
    assert facts.account.rho_spent == (unit.plan.step_rhos[0] if committed else 0)

    asked_again = run_in_process(lambda: unit.ask(request))

    facts = unit.facts()
    (released,) = unit.released(facts).values()
    assert asked_again.output == b"R" + released
    assert not committed or held == unit.released(facts)
    assert facts.account.rho_spent == unit.plan.step_rhos[0]
    shutil.rmtree(unit.home)


@pytest.mark.chaos
@every_point
def test_a_killed_unit_has_charged_exactly_what_it_can_repeat(
    point: Point, committed: bool, approved_unit: Callable[[], Unit]
) -> None:
    for _ in range(TIMES):
        survives_being_killed_at(point, approved_unit(), committed=committed)


@pytest.mark.soak
@every_point
def test_a_unit_killed_a_hundred_times_at_each_point_never_miscounts(
    point: Point, committed: bool, approved_unit: Callable[[], Unit]
) -> None:
    for _ in range(SOAK_TIMES):
        survives_being_killed_at(point, approved_unit(), committed=committed)


@pytest.mark.chaos
def test_a_unit_killed_again_and_again_releases_once_in_the_end(approved_unit: Callable[[], Unit]) -> None:
    unit = approved_unit()
    request = unit.request()
    for point in BEFORE_COMMIT:
        assert run_in_process(lambda: unit.ask(request), point).code == -signal.SIGKILL
    assert unit.facts().releases == ()

    reply = run_in_process(lambda: unit.ask(request))

    (released,) = unit.released(unit.facts()).values()
    assert reply.output == b"R" + released


@pytest.mark.chaos
@pytest.mark.parametrize("point", [Point("stored bytes found", f"{CONTRIBUTE}:recall"), *AFTER_COMMIT[-3:]], ids=str)
def test_a_unit_killed_while_it_repeats_itself_charges_nothing_more(
    point: Point, approved_unit: Callable[[], Unit]
) -> None:
    unit = approved_unit()
    reply = run_in_process(lambda: unit.ask(unit.request()))
    before = unit.facts().root

    assert run_in_process(lambda: unit.ask(unit.request()), point).code == -signal.SIGKILL

    assert unit.facts().root == before
    assert run_in_process(lambda: unit.ask(unit.request())) == reply


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "logged"),
    [
        (Point("plan checked", "fedseg.node.approvals:_preflight"), ["genesis"]),
        (Point("policy about to be committed", CONNECTIONS, sql="COMMIT"), ["genesis"]),
        (Point("policy committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"), ["genesis", "policy"]),
        (Point("approval about to be committed", CONNECTIONS, sql="COMMIT", call=2), ["genesis", "policy"]),
        (
            Point("approval committed", CONNECTIONS, sql="PRAGMA wal_checkpoint", call=2),
            ["genesis", "policy", "approval"],
        ),
    ],
    ids=lambda value: value.name.replace(" ", "-") if isinstance(value, Point) else "",
)
def test_a_unit_killed_while_it_approves_reserves_once_or_not_at_all(
    point: Point, logged: list[str], new_unit: Callable[[], Unit]
) -> None:
    unit = new_unit()

    assert run_in_process(unit.approve, point).code == -signal.SIGKILL

    assert [entry.kind for entry in unit.facts().raw.entries] == logged
    assert run_in_process(unit.approve).output == b"approved"
    assert [entry.kind for entry in unit.facts().raw.entries] == ["genesis", "policy", "approval"]
    assert unit.facts().account.rho_reserved == sum(unit.plan.step_rhos)


@pytest.mark.chaos
def test_a_point_that_no_longer_exists_fails_instead_of_passing_unnoticed(approved_unit: Callable[[], Unit]) -> None:
    unit = approved_unit()

    ended = run_in_process(lambda: unit.ask(unit.request()), Point("renamed", f"{CONTRIBUTE}:was_renamed"))

    assert ended.code > 0
    assert unit.facts().releases == ()


@pytest.mark.chaos
def test_a_killed_unit_that_never_approved_still_says_only_unavailable(new_unit: Callable[[], Unit]) -> None:
    unit = new_unit()
    assert run_in_process(lambda: unit.ask(unit.request()), BEFORE_COMMIT[0]).code == -signal.SIGKILL

    reply = run_in_process(lambda: unit.ask(unit.request()))

    assert reply.output == encode_unavailable()
    assert [entry.kind for entry in unit.facts().raw.entries] == ["genesis"]
