"""An exchange asks until every unit has given an answer that counts, forgets no question, and ends at the deadline."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedseg.errors import JobCancelledError, UnreachableError
from fedseg.federation import wire
from fedseg.federation.client_app import wait_for_slot
from fedseg.federation.exchange import POLL_SECONDS, SILENCE_SECONDS, Verdict, exchange


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


Answer = tuple[float, Callable[[Message], Message]]
"""After how many seconds a request is answered, and how."""
Script = Mapping[int, Sequence[Answer | None]]
"""How each node answers its first request, its second, and so on; the last goes on. None: the link does not take it."""


class ScriptedGrid(Grid):
    """A link on which each node answers by a script, and which is down at set times."""

    def __init__(self, clock: Clock, script: Script, down: Sequence[tuple[float, float]] = ()) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.clock, self.script, self.down = clock, script, down
        self.pushed: list[Message] = []
        self.pushed_at: dict[int, list[float]] = {node: [] for node in script}
        self.polled: list[list[str]] = []
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
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._require_up()
        return [self._push(message) for message in messages]  # type: ignore[misc] # Flower's own grid gives None too

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._require_up()
        self.polled.append(sorted(message_ids))
        there = [name for name in self.polled[-1] if name in self._under_way]
        return [self._under_way.pop(name)[1] for name in there if self._under_way[name][0] <= self.clock.now]

    def _require_up(self) -> None:
        if any(begin <= self.clock.now < end for begin, end in self.down):
            raise UnreachableError("nobody answers", why="it is down", fix="wait")

    def _push(self, message: Message) -> str | None:
        node = message.metadata.dst_node_id
        answers = self.script[node]
        answer = answers[min(len(self.pushed_at[node]), len(answers) - 1)]
        self.pushed_at[node].append(self.clock.now)
        if answer is None:
            return None
        name = f"message-{len(self.pushed)}"
        message.metadata.__dict__["_message_id"] = name
        self.pushed.append(message)
        delay, make = answer
        self._under_way[name] = (self.clock.now + delay, make(message))
        return name


def echo(message: Message) -> Message:
    return Message(wire.pack(b"reply of %d" % message.metadata.dst_node_id), reply_to=message)


def failure(message: Message, code: int = 5) -> Message:
    """Flower's own error: it comes from node 1, whichever node it is about."""
    made = Message(Error(code=code, reason="a customer called 4711"), reply_to=message)
    made.metadata.__dict__["_src_node_id"] = 1
    return made


AT_ONCE: Answer = (0, echo)
NEVER: Answer = (10**9, echo)
FAILS: Answer = (0, failure)


@dataclass
class Seen:
    """What came of an exchange."""

    replies: list[tuple[str, bytes]] = field(default_factory=list)
    """Unit and bytes of each reply that was handed over."""
    reports: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def words(self, unit: str) -> list[str]:
        """What was said about a unit, without repetitions in a row."""
        said = [waiting.get(unit, "answered") for waiting, _ in self.reports]
        return [now for now, before in zip(said, ["", *said], strict=False) if now != before]


Judge = Callable[[str, bytes], Verdict]


def count_all(_unit: str, _data: bytes) -> Verdict:
    return Verdict.COUNTED


def run_exchange(grid: ScriptedGrid, *, deadline: float = 60, judge: Judge = count_all, **named: Any) -> Seen:
    """Ask every node of the script; node n is unit-n."""
    seen, clock = Seen(), grid.clock

    def take(unit: str, reply: Message) -> Verdict:
        seen.replies.append((unit, wire.unpack_reply(reply)))
        return judge(*seen.replies[-1])

    def report(waiting: Mapping[str, str], seconds_left: float) -> None:
        seen.reports.append((dict(waiting), seconds_left))

    terms: dict[str, Any] = {"take": take, "report": report, "clock": clock, "sleep": clock.sleep, **named}
    asked = {f"unit-{node}": node for node in grid.script}
    exchange(grid, asked, lambda _: wire.pack(b"request"), deadline_seconds=deadline, **terms)
    return seen


def play(script: Script, down: Sequence[tuple[float, float]] = ()) -> ScriptedGrid:
    return ScriptedGrid(Clock(), script, down)


def waits(times: Sequence[float]) -> list[int]:
    """Seconds before each of these times since the one before it, or the beginning."""
    return [round(time - before) for time, before in zip(times, [100.0, *times], strict=False)]


# One question, one answer


def test_every_node_gets_the_same_bytes_which_live_for_as_long_as_they_are_polled() -> None:
    grid = play({1: [AT_ONCE], 2: [AT_ONCE]})
    run_exchange(grid, deadline=30)
    assert [message.metadata.dst_node_id for message in grid.pushed] == [1, 2]
    assert {wire.unpack_request(message) for message in grid.pushed} == {b"request"}
    assert {(message.metadata.message_type, message.metadata.ttl) for message in grid.pushed} == {("query.release", 31)}


def test_it_returns_as_soon_as_all_have_answered() -> None:
    grid = play({1: [AT_ONCE], 2: [(1, echo)], 3: [(0.5, echo)]})
    seen = run_exchange(grid)
    assert seen.replies == [("unit-1", b"reply of 1"), ("unit-3", b"reply of 3"), ("unit-2", b"reply of 2")]
    assert 101 <= grid.clock.now < 101 + 2 * POLL_SECONDS


@pytest.mark.parametrize("deadline", [1, 0.3, 7])
def test_it_returns_at_the_deadline_and_takes_what_has_come_by_then(deadline: float) -> None:
    grid = play({1: [(deadline, echo)], 2: [(deadline + 0.01, echo)], 3: [NEVER]})
    assert run_exchange(grid, deadline=deadline).replies == [("unit-1", b"reply of 1")]
    assert grid.clock.now == pytest.approx(100 + deadline)


def test_who_is_silent_is_waited_for_no_longer_than_the_grace_after_the_last_answer() -> None:
    grid = play({1: [(2, echo)], 2: [(5, echo)], 3: [(12, echo)]})
    seen = run_exchange(grid, grace_seconds=4)
    assert [unit for unit, _ in seen.replies] == ["unit-1", "unit-2"]
    assert 109 <= grid.clock.now < 109 + 2 * POLL_SECONDS
    nobody = play({1: [NEVER]})
    run_exchange(nobody, deadline=30, grace_seconds=4)
    assert nobody.clock.now == pytest.approx(130)


def test_what_has_been_answered_is_not_polled_again() -> None:
    grid = play({1: [AT_ONCE], 2: [(0.5, echo)]})
    run_exchange(grid)
    assert grid.polled[0] == ["message-0", "message-1"]
    assert all(polled == ["message-1"] for polled in grid.polled[1:])


def test_each_reply_is_taken_before_the_next_poll() -> None:
    taken: list[int] = []
    grid = play({1: [AT_ONCE], 2: [(0.5, echo)], 3: [(0.9, echo)]})

    def judge(_unit: str, _data: bytes) -> Verdict:
        taken.append(len(grid.polled))
        return Verdict.COUNTED

    run_exchange(grid, judge=judge)
    assert taken == [1, 4, 6]


def test_nobody_to_ask_is_nothing_to_wait_for() -> None:
    grid = play({})
    assert run_exchange(grid).reports == [({}, 60)]
    assert grid.clock.now == 100
    assert grid.polled == []


# Asking again


def test_an_error_from_node_one_counts_for_the_unit_it_is_about_which_is_asked_again() -> None:
    grid = play({1: [AT_ONCE], 2: [FAILS, AT_ONCE], 3: [(0.5, echo)]})
    seen = run_exchange(grid)
    assert [unit for unit, _ in seen.replies] == ["unit-1", "unit-3", "unit-2"]
    assert {node: len(times) for node, times in grid.pushed_at.items()} == {1: 1, 2: 2, 3: 1}
    assert {wire.unpack_request(message) for message in grid.pushed} == {b"request"}
    assert grid.clock.now == pytest.approx(102, abs=2 * POLL_SECONDS)


def test_pauses_between_questions_double_to_half_a_minute() -> None:
    grid = play({1: [FAILS]})
    run_exchange(grid, deadline=150)
    assert waits(grid.pushed_at[1]) == [0, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("verdict", [Verdict.UNAVAILABLE, Verdict.REFUSED])
def test_a_unit_whose_reply_does_not_count_is_asked_again_and_the_others_are_not(verdict: Verdict) -> None:
    replies: list[str] = []

    def judge(unit: str, _data: bytes) -> Verdict:
        replies.append(unit)
        return verdict if unit == "unit-1" and replies.count(unit) < 3 else Verdict.COUNTED

    grid = play({1: [AT_ONCE], 2: [AT_ONCE]})
    seen = run_exchange(grid, judge=judge)
    assert replies == ["unit-1", "unit-2", "unit-1", "unit-1"]
    assert waits(grid.pushed_at[1]) == [0, 2, 4]
    assert f"{verdict.value}; asking again in 2 s" in seen.words("unit-1")


def test_what_a_request_has_left_to_live_shrinks_with_the_time_that_is_left() -> None:
    grid = play({1: [FAILS]})
    run_exchange(grid, deadline=10)
    assert [message.metadata.ttl for message in grid.pushed] == pytest.approx([11, 9, 5], abs=2 * POLL_SECONDS)


def test_silence_is_broken_by_another_question_and_then_waited_for_longer() -> None:
    grid = play({1: [NEVER]})
    run_exchange(grid, deadline=700)
    assert SILENCE_SECONDS == 90
    assert waits(grid.pushed_at[1]) == [0, 90, 180, 360]


def test_silence_is_longer_where_replies_wait_for_their_slot() -> None:
    grid = play({1: [NEVER]})
    run_exchange(grid, deadline=200, silence_seconds=150)
    assert waits(grid.pushed_at[1]) == [0, 150]


@pytest.mark.parametrize("second", [NEVER, (400, failure)])
def test_a_late_reply_to_an_earlier_question_counts(second: Answer) -> None:
    grid = play({1: [(120, echo), second]})
    assert run_exchange(grid, deadline=1000).replies == [("unit-1", b"reply of 1")]
    assert grid.clock.now == pytest.approx(220, abs=2 * POLL_SECONDS)


def test_a_late_reply_counts_even_while_a_unit_is_in_a_pause() -> None:
    grid = play({1: [(SILENCE_SECONDS + 1, echo), FAILS]})
    assert len(run_exchange(grid, deadline=1000).replies) == 1
    assert grid.clock.now == pytest.approx(100 + SILENCE_SECONDS + 1, abs=2 * POLL_SECONDS)


def test_an_error_about_an_earlier_question_is_no_reason_to_ask_while_a_later_one_is_open() -> None:
    grid = play({1: [(100, failure), (50, echo)]})
    run_exchange(grid, deadline=1000)
    assert waits(grid.pushed_at[1]) == [0, 90]


def test_a_second_answer_is_taken_too_and_nobody_is_asked_for_it_again() -> None:
    seen_twice = {1: [(100, echo), (20, echo)], 2: [(115, echo)]}
    grid = play(seen_twice)
    seen = run_exchange(grid, deadline=1000, judge=lambda unit, _: Verdict.COUNTED)
    assert [unit for unit, _ in seen.replies] == ["unit-1", "unit-1", "unit-2"]
    assert len(grid.pushed_at[1]) == 2


def test_a_second_answer_that_is_refused_takes_nothing_back() -> None:
    verdicts = iter([Verdict.COUNTED, Verdict.REFUSED, Verdict.COUNTED])
    grid = play({1: [(100, echo), (20, echo)], 2: [(115, echo)]})
    run_exchange(grid, deadline=1000, judge=lambda *_: next(verdicts))
    assert grid.clock.now == pytest.approx(215, abs=2 * POLL_SECONDS)
    assert len(grid.pushed_at[1]) == 2


def test_a_unit_that_comes_back_is_asked_again_and_answers() -> None:
    grid = play({1: [AT_ONCE], 2: [(57, failure), FAILS, FAILS, AT_ONCE]})
    seen = run_exchange(grid, deadline=600)
    assert [unit for unit, _ in seen.replies] == ["unit-1", "unit-2"]
    assert waits(grid.pushed_at[2]) == [0, 59, 4, 8]


def test_a_node_that_never_connected_is_tried_until_it_has() -> None:
    grid = play({1: [None, None, AT_ONCE], 2: [AT_ONCE]})
    seen = run_exchange(grid)
    assert [unit for unit, _ in seen.replies] == ["unit-2", "unit-1"]
    assert "not connected; asking again in 2 s" in seen.words("unit-1")
    assert waits(grid.pushed_at[1]) == [0, 2, 4]


def test_a_link_that_names_no_message_at_all_is_tried_again() -> None:
    class Speechless(ScriptedGrid):
        """As Flower's when a request is too large for it."""

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            names = super().push_messages(messages)
            return names if self.clock.now > 101 else []

    grid = Speechless(Clock(), {1: [AT_ONCE], 2: [AT_ONCE]})
    assert len(run_exchange(grid).replies) == 2


def test_a_reply_to_something_else_is_nobodys() -> None:
    def stray(message: Message) -> Message:
        made = echo(message)
        made.metadata.__dict__["_reply_to_message_id"] = "a message of yesterday"
        return made

    grid = play({1: [(0, stray)]})
    assert run_exchange(grid, deadline=2).replies == []
    assert grid.clock.now == pytest.approx(102)


# A link that fails


def test_a_link_that_is_down_at_first_is_tried_until_it_is_up() -> None:
    grid = play({1: [AT_ONCE], 2: [AT_ONCE]}, down=[(100, 105)])
    seen = run_exchange(grid)
    assert len(seen.replies) == 2
    assert "the link does not answer; asking again in 2 s" in seen.words("unit-1")
    assert waits(grid.pushed_at[1]) == [6]


def test_a_link_that_restarts_in_the_middle_loses_no_question() -> None:
    grid = play({1: [AT_ONCE], 2: [(10, echo)]}, down=[(103, 120)])
    seen = run_exchange(grid)
    assert [unit for unit, _ in seen.replies] == ["unit-1", "unit-2"]
    assert len(grid.pushed_at[2]) == 1
    assert "asked 5 s ago; the link does not answer" in seen.words("unit-2")
    assert grid.clock.now == pytest.approx(120, abs=2 * POLL_SECONDS)


def test_a_link_that_never_comes_back_ends_the_exchange_at_the_deadline() -> None:
    grid = play({1: [NEVER]}, down=[(101, 10**9)])
    run_exchange(grid, deadline=300)
    assert grid.clock.now == pytest.approx(400)


# Who watches


def test_a_watcher_sees_who_is_waited_for_and_why() -> None:
    grid = play({1: [(0, failure), (1, echo)]})
    assert run_exchange(grid).words("unit-1") == [
        "about to be asked",
        "not connected; asking again in 2 s",
        "not connected; asking again in 1 s",
        "not connected; asking again in 0 s",
        "asked 0 s ago",
        "asked 1 s ago",
        "answered",
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, "its app failed"),
        (3, "the request was lost"),
        (4, "its reply was lost"),
        (5, "not connected"),
        (7, "it does not take the server's bundle"),
        (8, "its data process stopped while answering"),
        (99, "Flower's error 99"),
    ],
)
def test_flowers_errors_have_words_and_their_text_is_read_by_nobody(
    code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        seen = run_exchange(play({1: [(0, lambda message: failure(message, code))]}), deadline=1)
    assert f"{words}; asking again in 2 s" in seen.words("unit-1")
    assert "4711" not in caplog.text + str(seen.reports)


def test_a_watcher_is_called_before_the_first_question_at_each_poll_and_at_the_end() -> None:
    grid = play({1: [(10, echo)]})
    first, *others, last = run_exchange(grid, deadline=20).reports
    assert (first[0], round(first[1])) == ({"unit-1": "about to be asked"}, 20)
    assert len(others) == len(grid.clock.sleeps)
    assert (last[0], round(last[1])) == ({}, 10)


def test_a_watcher_ends_the_exchange_within_a_poll_and_what_came_is_taken() -> None:
    grid = play({1: [AT_ONCE], 2: [NEVER]})

    def cancel(_waiting: Mapping[str, str], _seconds_left: float) -> None:
        if grid.clock.now > 105:
            raise JobCancelledError("the job was cancelled", why="somebody wanted it", fix="submit it again")

    taken: list[str] = []

    def judge(unit: str, _data: bytes) -> Verdict:
        taken.append(unit)
        return Verdict.COUNTED

    with pytest.raises(JobCancelledError):
        run_exchange(grid, judge=judge, report=cancel)
    assert taken == ["unit-1"]
    assert grid.clock.now == pytest.approx(105, abs=2 * POLL_SECONDS)


def test_a_trouble_is_logged_once_and_not_at_every_question(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_exchange(play({1: [FAILS], 2: [NEVER]}, down=[(130, 150)]), deadline=200)
    assert caplog.text.count("unit=unit-1 why=not connected") == 2
    assert caplog.text.count("unit=unit-1 why=the link does not answer") == 1
    assert caplog.text.count("link.down") == 1


# The units' side: replies leave on slots


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
