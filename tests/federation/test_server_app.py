"""The coordinator persists each reply at once, closes rounds by quorum, and ends in the same bytes however often it stops."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from fedseg.errors import PlanError, RoundError, SettingsError
from fedseg.federation import wire
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import make_server_app, run_plan
from fedseg.segments.segmentation import parse_signed
from fedseg.server.home import ServerHome
from tests.small_federation import SmallFederation

Fault = Callable[[int, Message], Message | None]
"""From a node and its reply to what arrives of it."""


class Faulty(Grid):
    """Another grid, on which replies are lost or replaced on the way."""

    def __init__(self, inner: LoopbackGrid, fault: Fault) -> None:
        self.inner, self.fault = inner, fault
        self.asked: list[int] = []
        self.rounds = 0

    def set_run(self, run: Any) -> None:
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        return self.inner.run

    def create_message(self, *args: Any, **named: Any) -> Message:
        return self.inner.create_message(*args, **named)

    def get_node_ids(self) -> Iterable[int]:
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.rounds += 1
        pushed = list(messages)
        self.asked += [message.metadata.dst_node_id for message in pushed]
        return self.inner.push_messages(pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = [self.fault(reply.metadata.src_node_id, reply) for reply in self.inner.pull_messages(message_ids)]
        return [reply for reply in replies if reply is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


def replaced(reply: Message, data: bytes) -> Message:
    changed = Message(wire.pack(data), reply_to=reply)
    changed.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return changed


def entries_of(server: ServerHome) -> list[str]:
    with server.ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def test_a_run_ends_in_a_signed_segmentation_that_stands_in_the_ledger(federation: SmallFederation) -> None:
    steps: list[int] = []
    signed = run_plan(federation.grid(), federation.server, federation.document, on_round=steps.append)
    assert steps == [0, 1, 2]
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


def test_a_finished_run_asks_nobody_again_and_gives_the_same_bytes(federation: SmallFederation) -> None:
    first = run_plan(federation.grid(), federation.server, federation.document)
    entries = entries_of(federation.server)
    silent = Faulty(federation.grid(), lambda _, reply: reply)
    assert run_plan(silent, federation.server, federation.document) == first
    assert silent.asked == []
    assert entries_of(federation.server) == entries


class Interrupted(Exception):  # noqa: N818 (a fault, not an error of ours)
    """The server stops here."""


@pytest.mark.parametrize("stop", range(6))
def test_a_run_that_stops_after_any_reply_goes_on_to_the_same_segments(
    federation: SmallFederation, tmp_path: Path, stop: int
) -> None:
    undisturbed = federation.copied_to(tmp_path / "undisturbed")
    expected = run_plan(undisturbed.grid(), undisturbed.server, undisturbed.document)
    seen: list[int] = []

    def stopping(node: int, reply: Message) -> Message:
        if len(seen) == stop:
            raise Interrupted
        seen.append(node)
        return reply

    grid = federation.grid()
    with pytest.raises(Interrupted):
        run_plan(Faulty(grid, stopping), federation.server, federation.document)
    resumed = run_plan(grid, federation.server, federation.document)
    assert resumed.segmentation == expected.segmentation


def test_a_unit_that_is_unavailable_is_absent_and_the_quorum_goes_on(
    federation: SmallFederation, caplog: pytest.LogCaptureFixture
) -> None:
    federation.customers_file("south").unlink()
    with caplog.at_level(logging.INFO):
        signed = run_plan(federation.grid(), federation.server, federation.document)
    assert signed.segmentation.units == ("north",)
    assert "reply.unavailable step=0" in caplog.text


BAD_REPLIES: dict[str, Callable[[Message], Message]] = {
    "junk": lambda reply: replaced(reply, b"junk"),
    "nothing": lambda reply: replaced(reply, b""),
    "a changed byte": lambda reply: replaced(reply, wire.unpack_reply(reply)[:-1] + b"?"),
    "no record": lambda reply: Message(RecordDict(), reply_to=reply),
    "an error of Flower's": lambda reply: Message(Error(code=5, reason="a reason"), reply_to=reply),
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
        signed = run_plan(Faulty(federation.grid(), fault), federation.server, federation.document)
    assert signed.segmentation.units == ("north",)
    assert caplog.text.count("reply.refused") == 3
    assert entries_of(federation.server).count("contribution") == 3


def test_a_reply_replayed_from_an_earlier_round_is_refused(federation: SmallFederation) -> None:
    kept: list[bytes] = []

    def replay(node: int, reply: Message) -> Message:
        if node == 1:
            return reply
        kept.append(wire.unpack_reply(reply))
        return replaced(reply, kept[0])

    signed = run_plan(Faulty(federation.grid(), replay), federation.server, federation.document)
    with federation.server.ledger() as ledger:
        rounds = [entry.body["units"] for entry in ledger.entries() if entry.kind == "round"]
    assert rounds == [["north", "south"], ["north"], ["north"]]
    assert signed.segmentation.units == ("north", "south")


def test_below_the_quorum_the_run_stops_keeps_what_came_and_goes_on_later(
    federation: SmallFederation, tmp_path: Path
) -> None:
    undisturbed = federation.copied_to(tmp_path / "undisturbed")
    expected = run_plan(undisturbed.grid(), undisturbed.server, undisturbed.document)
    grid = federation.grid()
    nobody = Faulty(grid, lambda _, reply: replaced(reply, wire.encode_unavailable()))
    with pytest.raises(RoundError, match="0 of 2 units answered step 0"):
        run_plan(nobody, federation.server, federation.document)
    assert entries_of(federation.server) == ["genesis", "plan"]
    resumed = run_plan(grid, federation.server, federation.document)
    assert resumed.segmentation == expected.segmentation


def test_a_document_that_is_no_plan_starts_nothing(federation: SmallFederation) -> None:
    with pytest.raises(PlanError):
        run_plan(federation.grid(), federation.server, b"version = 1")
    assert entries_of(federation.server) == ["genesis"]


def test_the_server_app_finds_home_and_plan_in_its_configuration(federation: SmallFederation) -> None:
    (federation.path / "plan.toml").write_bytes(federation.document)
    config = {"home": str(federation.path / "server"), "plan": str(federation.path / "plan.toml")}
    context = Context(1, 1, {}, RecordDict(), dict(config))
    make_server_app()(federation.grid(), context)
    assert entries_of(federation.server)[-1] == "publication"


def test_a_directory_without_a_ledger_is_not_the_home_of_a_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not the home of a server"):
        ServerHome.open(tmp_path)
