"""The coordinator persists each reply at once, closes rounds by quorum, and ends in the same bytes however often it stops."""

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from fedseg.errors import JobCancelledError, PlanError, RoundError, SettingsError, VerificationError
from fedseg.federation import wire
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import RoundProgress, make_server_app, run_plan
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from fedseg.server.home import ServerHome
from tests.small_federation import SmallFederation
from tests.wrapped_grid import WrappedGrid

Fault = Callable[[int, Message], Message | None]
"""From a node and its reply to what arrives of it."""


class Faulty(WrappedGrid):
    """Another grid, on which replies are lost or replaced on the way."""

    def __init__(self, inner: LoopbackGrid, fault: Fault) -> None:
        super().__init__(inner)
        self.fault = fault
        self.asked: list[int] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        self.asked += [message.metadata.dst_node_id for message in pushed]
        return self.inner.push_messages(pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = [self.fault(reply.metadata.src_node_id, reply) for reply in self.inner.pull_messages(message_ids)]
        return [reply for reply in replies if reply is not None]


def replaced(reply: Message, data: bytes) -> Message:
    changed = Message(wire.pack(data), reply_to=reply)
    changed.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return changed


def entries_of(server: ServerHome) -> list[str]:
    with server.ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def run(federation: SmallFederation, grid: LoopbackGrid | Faulty | None = None, **named: Any) -> SignedSegmentation:
    """Run the federation's plan, over its own grid unless told otherwise, in that grid's time."""
    used = federation.grid() if grid is None else grid
    terms: dict[str, Any] = {"roster": federation.roster, "clock": used.clock, "sleep": used.sleep} | named
    return run_plan(used, federation.server, federation.document, **terms)


def test_a_run_ends_in_a_signed_segmentation_that_stands_in_the_ledger(federation: SmallFederation) -> None:
    signed = run(federation)
    assert signed.segmentation.plan_sha256 == federation.plan.digest
    assert signed.segmentation.units == ("north", "south")
    assert signed.segmentation.simulated
    with federation.server.ledger() as ledger:
        stored = ledger.payload(f"segmentation:{federation.plan.digest}")
    assert stored == signed.to_json()
    assert parse_signed(signed.to_json()) == signed
    assert entries_of(federation.server) == [
        "genesis",
        "plan",
        *(["contribution", "contribution", "round"] * 3),
        "publication",
    ]


def test_a_segmentation_with_a_number_beyond_all_numbers_is_refused(federation: SmallFederation) -> None:
    document = run(federation).to_json()
    number = re.search(rb'"low":[0-9.]+', document)
    assert number is not None
    with pytest.raises(VerificationError, match="not a segmentation file"):
        parse_signed(document.replace(number[0], b'"low":1e999'))


def test_a_finished_run_asks_nobody_again_and_gives_the_same_bytes(federation: SmallFederation) -> None:
    first = run(federation)
    entries = entries_of(federation.server)
    silent = Faulty(federation.grid(), lambda _, reply: reply)
    assert run(federation, silent) == first
    assert silent.asked == []
    assert entries_of(federation.server) == entries


class Interrupted(Exception):  # noqa: N818 (a fault, not an error of ours)
    """The server stops here."""


@pytest.mark.parametrize("stop", range(6))
def test_a_run_that_stops_after_any_reply_goes_on_to_the_same_segments(
    federation: SmallFederation, tmp_path: Path, stop: int
) -> None:
    undisturbed = federation.copied_to(tmp_path / "undisturbed")
    expected = run(undisturbed)
    seen: list[int] = []

    def stopping(node: int, reply: Message) -> Message:
        if len(seen) == stop:
            raise Interrupted
        seen.append(node)
        return reply

    grid = federation.grid()
    with pytest.raises(Interrupted):
        run(federation, Faulty(grid, stopping))
    resumed = run(federation, grid)
    assert resumed.segmentation == expected.segmentation


def test_a_unit_that_is_unavailable_is_absent_and_the_quorum_goes_on(
    federation: SmallFederation, caplog: pytest.LogCaptureFixture
) -> None:
    federation.customers_file("south").unlink()
    with caplog.at_level(logging.INFO):
        signed = run(federation)
    assert signed.segmentation.units == ("north",)
    assert "unit=south why=unavailable, its own log says why" in caplog.text


BAD_REPLIES: dict[str, Callable[[Message], Message]] = {
    "junk": lambda reply: replaced(reply, b"junk"),
    "nothing": lambda reply: replaced(reply, b""),
    "a changed byte": lambda reply: replaced(reply, wire.unpack_reply(reply)[:-1] + b"?"),
    "no record": lambda reply: Message(RecordDict(), reply_to=reply),
}


@pytest.mark.parametrize("bad", BAD_REPLIES.values(), ids=list(BAD_REPLIES))
def test_a_reply_that_is_no_release_is_refused_and_the_others_count(
    federation: SmallFederation, bad: Callable[[Message], Message], caplog: pytest.LogCaptureFixture
) -> None:
    def fault(node: int, reply: Message) -> Message:
        if node == 1:
            return reply
        made = bad(reply)
        made.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
        return made

    with caplog.at_level(logging.WARNING):
        signed = run(federation, Faulty(federation.grid(), fault))
    assert signed.segmentation.units == ("north",)
    assert caplog.text.count("unit=south why=its reply was refused") == 3
    assert "reply.refused step=0 unit=south code=E805" in caplog.text
    assert entries_of(federation.server).count("contribution") == 3


def test_a_reply_replayed_from_an_earlier_round_is_refused(federation: SmallFederation) -> None:
    kept: list[bytes] = []

    def replay(node: int, reply: Message) -> Message:
        if node == 1:
            return reply
        kept.append(wire.unpack_reply(reply))
        return replaced(reply, kept[0])

    signed = run(federation, Faulty(federation.grid(), replay))
    with federation.server.ledger() as ledger:
        rounds = [entry.body["units"] for entry in ledger.entries() if entry.kind == "round"]
    assert rounds == [["north", "south"], ["north"], ["north"]]
    assert signed.segmentation.units == ("north", "south")


def test_below_the_quorum_the_run_stops_keeps_what_came_and_goes_on_later(
    federation: SmallFederation, tmp_path: Path
) -> None:
    undisturbed = federation.copied_to(tmp_path / "undisturbed")
    expected = run(undisturbed)
    grid = federation.grid()
    nobody = Faulty(grid, lambda _, reply: replaced(reply, wire.encode_unavailable()))
    with pytest.raises(RoundError, match="0 of 2 units answered step 0"):
        run(federation, nobody)
    assert entries_of(federation.server) == ["genesis", "plan"]
    resumed = run(federation, grid)
    assert resumed.segmentation == expected.segmentation


def test_a_run_goes_on_by_asking_only_those_who_have_not_answered(federation: SmallFederation) -> None:
    def only_first_of_north(node: int, reply: Message) -> Message:
        return reply if node == 1 else replaced(reply, wire.encode_unavailable())

    def stop(progress: RoundProgress) -> None:
        if progress.answered and progress.seconds_left < 50:
            raise JobCancelledError("the job was cancelled", why="somebody wanted it", fix="submit it again")

    first = Faulty(federation.grid(), only_first_of_north)
    with pytest.raises(JobCancelledError):
        run(federation, first, watch=stop)
    assert entries_of(federation.server) == ["genesis", "plan", "contribution"]
    assert (first.asked.count(1), first.asked.count(2)) == (1, 3)

    later = Faulty(federation.grid(), lambda _, reply: reply)
    assert run(federation, later).segmentation.units == ("north", "south")
    assert later.asked == [2, *[1, 2] * 2]


def test_a_contribution_counts_only_from_the_unit_that_was_asked(
    federation: SmallFederation, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[bytes] = []

    def borrowed(node: int, reply: Message) -> Message:
        if node == 1:
            kept.append(wire.unpack_reply(reply))
            return reply
        return replaced(reply, kept[-1])

    with caplog.at_level(logging.WARNING):
        signed = run(federation, Faulty(federation.grid(), borrowed))
    assert signed.segmentation.units == ("north",)
    assert "a reply of unit south holds a contribution of unit north" in caplog.text


def test_a_unit_that_fails_at_first_is_in_the_round_all_the_same(federation: SmallFederation) -> None:
    south: list[int] = []

    def late(node: int, reply: Message) -> Message:
        south.extend([node] * (node == 2))
        return replaced(reply, wire.encode_unavailable()) if node == 2 and len(south) <= 3 else reply

    signed = run(federation, Faulty(federation.grid(), late))
    assert signed.segmentation.units == ("north", "south")
    assert entries_of(federation.server).count("contribution") == 6


def test_a_round_waits_for_every_unit_until_the_deadline(federation: SmallFederation) -> None:
    federation.customers_file("south").unlink()
    grid = federation.grid()
    run(federation, grid)
    assert grid.clock() == pytest.approx(federation.plan.rounds * federation.plan.deadline_seconds)


def test_a_watcher_sees_each_round_from_before_it_is_asked_for_to_its_end(federation: SmallFederation) -> None:
    seen: list[RoundProgress] = []
    run(federation, watch=seen.append)
    asked = {"north": "about to be asked", "south": "about to be asked"}
    assert seen == [
        progress
        for step in range(3)
        for progress in (
            RoundProgress(step, 3, (), asked, 60),
            RoundProgress(step, 3, ("north", "south"), {}, 60),
        )
    ]


def test_a_unit_that_is_not_in_the_roster_is_not_waited_for(federation: SmallFederation) -> None:
    seen: list[RoundProgress] = []
    grid = federation.grid()
    signed = run(federation, grid, roster={"north": 1, "elsewhere": 2}, watch=seen.append)
    assert signed.segmentation.units == ("north",)
    assert grid.clock() == 0
    assert seen[1] == RoundProgress(0, 3, ("north",), {"south": "not registered"}, 60)


def test_a_roster_below_the_quorum_is_refused_before_anybody_is_asked(federation: SmallFederation) -> None:
    grid = Faulty(federation.grid(), lambda _, reply: reply)
    with pytest.raises(RoundError, match=r"0 of the plan's 2 units are registered.*not registered: north, south"):
        run(federation, grid, roster={"elsewhere": 2})
    assert grid.asked == []


def test_a_document_that_is_no_plan_starts_nothing(federation: SmallFederation) -> None:
    with pytest.raises(PlanError):
        run_plan(federation.grid(), federation.server, b"version = 1", roster=federation.roster)
    assert entries_of(federation.server) == ["genesis"]


def test_the_server_app_finds_home_and_plan_in_its_configuration(federation: SmallFederation) -> None:
    (federation.path / "plan.toml").write_bytes(federation.document)
    config = {"home": str(federation.path / "server"), "plan": str(federation.path / "plan.toml")}
    context = Context(1, 1, {}, RecordDict(), dict(config))
    make_server_app(roster=federation.roster)(federation.grid(), context)
    assert entries_of(federation.server)[-1] == "publication"


def test_a_directory_without_a_ledger_is_not_the_home_of_a_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not the home of a server"):
        ServerHome.open(tmp_path)
