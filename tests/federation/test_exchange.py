"""An exchange hands over every reply once, matches it by what it answers, and ends at the deadline."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedseg.errors import ContributionError
from fedseg.federation import wire
from fedseg.federation.client_app import wait_for_slot
from fedseg.federation.exchange import POLL_SECONDS, exchange


@dataclass
class Clock:
    """Time that passes only while someone sleeps, or takes long."""

    now: float = 100.0
    sleeps: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class ScriptedGrid(Grid):
    """A link on which each node's reply arrives at a set time, made by a set function; or never."""

    def __init__(self, clock: Clock, script: dict[int, tuple[float, Callable[[Message], Message]]]) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.clock, self.script = clock, script
        self.pushed: list[Message] = []
        self.asked: list[list[str]] = []
        self._under_way: dict[str, tuple[float, Message]] = {}

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **named: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.script)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        names = []
        for message in messages:
            name = f"message-{len(self.pushed)}"
            message.metadata.__dict__["_message_id"] = name
            self.pushed.append(message)
            names.append(name)
            if message.metadata.dst_node_id in self.script:
                delay, answer = self.script[message.metadata.dst_node_id]
                self._under_way[name] = (self.clock.now + delay, answer(message))
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.asked.append(sorted(message_ids))
        there = [name for name in self.asked[-1] if name in self._under_way]
        return [self._under_way.pop(name)[1] for name in there if self._under_way[name][0] <= self.clock.now]


def echo(message: Message) -> Message:
    return Message(wire.pack(b"reply of %d" % message.metadata.dst_node_id), reply_to=message)


def failure(message: Message) -> Message:
    """Flower's own error for a node that did not answer: it comes from node 1, whichever node it is about."""
    made = Message(Error(code=5, reason="message unavailable"), reply_to=message)
    made.metadata.__dict__["_src_node_id"] = 1
    return made


def run_exchange(
    grid: ScriptedGrid, clock: Clock, nodes: list[int], deadline: float = 60, *, takes: bool = True
) -> list[Message]:
    taken: list[Message] = []

    def take(reply: Message) -> bool:
        taken.append(reply)
        return takes

    exchange(grid, nodes, b"request", deadline_seconds=deadline, take=take, clock=clock, sleep=clock.sleep)
    return taken


def test_every_node_gets_the_same_bytes_with_the_deadline_as_time_to_live() -> None:
    clock = Clock()
    grid = ScriptedGrid(clock, {1: (0, echo), 2: (0, echo)})
    run_exchange(grid, clock, [1, 2], deadline=30)
    assert [message.metadata.dst_node_id for message in grid.pushed] == [1, 2]
    assert {wire.unpack_request(message) for message in grid.pushed} == {b"request"}
    assert {(message.metadata.message_type, message.metadata.ttl) for message in grid.pushed} == {("query.release", 30)}


def test_it_returns_as_soon_as_all_have_answered() -> None:
    clock = Clock()
    taken = run_exchange(ScriptedGrid(clock, {1: (0, echo), 2: (1, echo), 3: (0.5, echo)}), clock, [1, 2, 3])
    assert [wire.unpack_reply(reply) for reply in taken] == [b"reply of 1", b"reply of 3", b"reply of 2"]
    assert 101 <= clock.now < 101 + 2 * POLL_SECONDS


@pytest.mark.parametrize("deadline", [1, 0.3, 7])
def test_it_returns_at_the_deadline_and_takes_what_has_come_by_then(deadline: float) -> None:
    clock = Clock()
    taken = run_exchange(
        ScriptedGrid(clock, {1: (deadline, echo), 2: (deadline + 0.01, echo)}), clock, [1, 2, 3], deadline
    )
    assert [wire.unpack_reply(reply) for reply in taken] == [b"reply of 1"]
    assert clock.now == pytest.approx(100 + deadline)


def test_a_node_that_has_answered_is_not_asked_about_again() -> None:
    clock = Clock()
    grid = ScriptedGrid(clock, {1: (0, echo), 2: (0.5, echo)})
    run_exchange(grid, clock, [1, 2])
    assert grid.asked[0] == ["message-0", "message-1"]
    assert all(asked == ["message-1"] for asked in grid.asked[1:])


def test_an_error_from_node_one_counts_for_the_node_it_is_about() -> None:
    clock = Clock()
    grid = ScriptedGrid(clock, {1: (0, echo), 2: (0, failure), 3: (0.5, echo)})
    taken = run_exchange(grid, clock, [1, 2, 3])
    assert len(taken) == 3
    assert clock.now < 101
    with pytest.raises(ContributionError):
        wire.unpack_reply(taken[1])


def test_a_reply_that_is_refused_does_not_stop_the_others() -> None:
    clock = Clock()
    assert len(run_exchange(ScriptedGrid(clock, {1: (0, echo), 2: (0.5, echo)}), clock, [1, 2], takes=False)) == 2


def test_a_reply_to_something_else_keeps_nobody_waiting_and_is_handed_over_to_be_judged() -> None:
    def stray(message: Message) -> Message:
        made = echo(message)
        made.metadata.__dict__["_reply_to_message_id"] = "a message of yesterday"
        return made

    clock = Clock()
    taken = run_exchange(ScriptedGrid(clock, {1: (0, stray)}), clock, [1], deadline=2)
    assert len(taken) == 1
    assert clock.now == pytest.approx(102)


def test_nobody_to_ask_is_nothing_to_wait_for() -> None:
    clock = Clock()
    assert run_exchange(ScriptedGrid(clock, {}), clock, []) == []
    assert clock.now == 100


@pytest.mark.parametrize(
    ("worked", "slot", "waited"),
    [(0.0, 5, 5.0), (1.25, 5, 3.75), (4.75, 5, 0.25), (5.0, 5, 5.0), (12.5, 5, 2.5), (0.5, 3600, 3599.5)],
)
def test_a_reply_leaves_on_the_next_slot_after_the_work(worked: float, slot: int, waited: float) -> None:
    clock = Clock(100 + worked)
    wait_for_slot(100, slot, clock=clock, sleep=clock.sleep)
    assert clock.sleeps == [waited]


def test_how_long_the_work_took_within_a_slot_does_not_show() -> None:
    left = set()
    for worked in (0.0, 0.001, 2.0, 9.5):
        clock = Clock(100 + worked)
        wait_for_slot(100, 10, clock=clock, sleep=clock.sleep)
        left.add(clock.now)
    assert left == {110}


def test_without_slots_nobody_waits() -> None:
    clock = Clock()
    wait_for_slot(100, 0, clock=clock, sleep=clock.sleep)
    assert clock.sleeps == []


def test_a_record_of_a_real_message_has_the_one_field(  # what a router of Flower's may log about us
) -> None:
    assert wire.pack(b"x") == RecordDict({"fedseg": wire.pack(b"x")["fedseg"]})
