"""Two processes of one unit at work at the same time: nothing is overspent, and nothing is answered twice.

One process stops itself at a named point, the other one works, then the first goes on: each interleaving on purpose.
"""

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.errors import BudgetError
from fedseg.federation.wire import encode_unavailable
from fedseg.plan import parse_plan
from tests.chaos.conftest import Child, Ended, Point, Unit

CONNECTIONS = "fedseg.ledger.store:connect"
CONTRIBUTE = "fedseg.node.contribute"

WHILE_ANSWERING = [
    Point("plan read", f"{CONTRIBUTE}:approved_plan", call=2),
    Point("memory searched", f"{CONTRIBUTE}:recall"),
    Point("account checked", "fedseg.privacy.state:AccountState.require_step"),
    Point("noise drawn", "fedseg.privacy.noise:Noise.draw"),
    Point("source opened", f"{CONTRIBUTE}:open_source"),
    Point("statistic summed", f"{CONTRIBUTE}:summarize"),
    Point("transaction about to begin", CONNECTIONS, sql="BEGIN IMMEDIATE"),
    Point("transaction begun", "fedseg.privacy.account:PrivacyAccount.state_in", "before"),
    Point("noise added", "fedseg.privacy.release:_signed", "before"),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
    Point("committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"),
    Point("release made", f"{CONTRIBUTE}:release"),
]
WHILE_APPROVING = [
    Point("budget checked", "fedseg.privacy.state:AccountState.require_room"),
    Point("plan checked", "fedseg.node.approvals:_preflight"),
    Point("policy committed", "fedseg.privacy.account:PrivacyAccount.adopt_policy"),
    Point("transaction about to begin", CONNECTIONS, sql="BEGIN IMMEDIATE", call=2),
    Point("transaction begun", "fedseg.privacy.state:AccountState.require_room", "before", call=2),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
    Point("committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"),
]
HEAD_START_SECONDS = 0.15
"""How long the second process may work before the stopped one goes on; it may be waiting for the stopped one."""


def every(points: list[Point]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("point", points, ids=[point.name.replace(" ", "-") for point in points])


def interleaved(first: Callable[[], bytes], second: Callable[[], bytes], point: Point) -> tuple[Ended, Ended]:
    """`first` stops at `point`, `second` works, `first` goes on."""
    stopped = Child.start(first, point, signal.SIGSTOP)
    stopped.wait_for_stop()
    other = Child.start(second)
    going_on = threading.Timer(HEAD_START_SECONDS, stopped.go_on)
    going_on.start()
    answers = other.wait(), stopped.wait()
    going_on.join()
    return answers[1], answers[0]


def with_another_name(unit: Unit, name: str) -> Unit:
    """The same unit with a plan of the same price under another name."""
    document = unit.document.replace(b'name = "small"', f'name = "{name}"'.encode(), 1)
    return replace(unit, plan=parse_plan(document), document=document)


def approving(unit: Unit) -> Callable[[], bytes]:
    def approve() -> bytes:
        try:
            return unit.approve()
        except BudgetError:
            return b"over budget"

    return approve


@pytest.fixture
def nearly_spent(new_unit: Callable[[], Unit]) -> tuple[Unit, Unit]:
    """A unit with room for one of two more plans; once for each of the two."""
    unit = new_unit()
    with_another_name(unit, "earlier").approve()
    first, second = with_another_name(unit, "first"), with_another_name(unit, "second")
    price = sum(unit.plan.step_rhos)
    assert 2 * price <= Fraction(1, 10) < 3 * price
    return first, second


@pytest.mark.chaos
@every(WHILE_ANSWERING)
def test_two_processes_answering_one_request_release_the_same_bytes_once(
    point: Point, approved_unit: Callable[[], Unit]
) -> None:
    unit = approved_unit()

    def ask() -> bytes:
        return unit.ask(unit.request())

    first, second = interleaved(ask, ask, point)

    facts = unit.facts()
    (released,) = unit.released(facts).values()
    assert first.output == second.output == b"R" + released
    assert facts.account.rho_spent == unit.plan.step_rhos[0]


@pytest.mark.chaos
@every(WHILE_ANSWERING)
def test_of_two_different_requests_for_one_step_exactly_one_is_answered(
    point: Point, approved_unit: Callable[[], Unit]
) -> None:
    unit = approved_unit()

    answers = interleaved(lambda: unit.ask(unit.request()), lambda: unit.ask(unit.request(other=True)), point)

    facts = unit.facts()
    (released,) = unit.released(facts).values()
    assert sorted(one.output for one in answers) == sorted([b"R" + released, encode_unavailable()])
    assert facts.account.rho_spent == unit.plan.step_rhos[0]


@pytest.mark.chaos
@every(WHILE_APPROVING)
def test_two_plans_approved_at_once_never_reserve_more_than_the_cap(
    point: Point, nearly_spent: tuple[Unit, Unit]
) -> None:
    first, second = nearly_spent

    answers = interleaved(approving(first), approving(second), point)

    account = first.facts().account
    assert sorted(one.output for one in answers) == [b"approved", b"over budget"]
    assert account.rho_reserved == 2 * sum(first.plan.step_rhos) <= Fraction(1, 10)
    assert (first.plan.digest in account.reservations) != (second.plan.digest in account.reservations)


@pytest.mark.chaos
@pytest.mark.parametrize("lead_milliseconds", range(-40, 41, 8))
def test_two_plans_approved_and_answered_side_by_side_never_overspend(
    lead_milliseconds: int, nearly_spent: tuple[Unit, Unit]
) -> None:
    def work(unit: Unit, wait_milliseconds: int) -> Callable[[], bytes]:
        def approve_then_answer() -> bytes:
            signal.sigtimedwait([], wait_milliseconds / 1000)
            return approving(unit)() + b" " + unit.ask(unit.request())

        return approve_then_answer

    first, second = nearly_spent
    children = [
        Child.start(work(first, max(0, -lead_milliseconds))),
        Child.start(work(second, max(0, lead_milliseconds))),
    ]
    answers = sorted(child.wait().output for child in children)

    facts = first.facts()
    (released,) = first.released(facts).values()
    assert answers == [b"approved R" + released, b"over budget " + encode_unavailable()]
    assert facts.account.rho_spent == first.plan.step_rhos[0]
    assert facts.account.rho_reserved <= Fraction(1, 10)


@pytest.mark.chaos
def test_many_processes_asked_the_same_at_once_all_give_the_same_bytes(approved_unit: Callable[[], Unit]) -> None:
    unit = approved_unit()

    answers = {child.wait() for child in [Child.start(lambda: unit.ask(unit.request())) for _ in range(8)]}

    (released,) = unit.released(unit.facts()).values()
    assert answers == {Ended(0, b"R" + released)}


@pytest.mark.chaos
def test_an_auditor_can_verify_a_ledger_while_its_unit_holds_a_transaction(
    approved_unit: Callable[[], Unit], tmp_path: Path
) -> None:
    unit = approved_unit()
    stopped = Child.start(
        lambda: unit.ask(unit.request()), Point("about to commit", CONNECTIONS, sql="COMMIT"), signal.SIGSTOP
    )
    stopped.wait_for_stop()
    try:
        assert unit.facts().releases == ()
    finally:
        stopped.go_on()
    assert stopped.wait().code == 0
    assert len(unit.facts().releases) == 1
