"""The loopback behaves as Flower's link does: real codec, fresh ids, replies that know what they answer, each once."""

import inspect
import logging
import time
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedseg.clustering.request import request_bytes
from fedseg.federation import wire
from fedseg.federation.client_app import make_client_app
from fedseg.federation.loopback import RUN_ID, LoopbackGrid
from fedseg.privacy.noise import SimulatedNoise
from tests.small_federation import SmallFederation, ask, some_request

QUERY = "query.echo"


def echo_app() -> ClientApp:
    app = ClientApp()

    @app.query("echo")
    def echo(message: Message, context: Context) -> Message:
        name = str(context.node_config["name"]).encode()
        return Message(wire.pack(name + b":" + wire.unpack_request(message)), reply_to=message)

    @app.query("fail")
    def fail(message: Message, context: Context) -> Message:
        raise RuntimeError("text that must not be swallowed by a test")

    @app.query("refuse")
    def refuse(message: Message, context: Context) -> Message:
        return Message(Error(code=7, reason="so"), reply_to=message)

    return app


@pytest.fixture
def grid() -> LoopbackGrid:
    return LoopbackGrid(echo_app(), {4: {"name": "four"}, 9: {"name": "nine"}})


def question(node: int, data: bytes = b"hello", kind: str = QUERY) -> Message:
    return Message(wire.pack(data), node, kind, group_id="g", ttl=30.0)


def test_it_is_a_complete_grid_of_flowers() -> None:
    assert issubclass(LoopbackGrid, Grid)
    assert not inspect.isabstract(LoopbackGrid)


def test_a_message_reaches_its_node_with_that_nodes_context(grid: LoopbackGrid) -> None:
    names = list(grid.push_messages([question(9), question(4, b"\x00\xff")]))
    replies = list(grid.pull_messages(names))
    assert [wire.unpack_reply(reply) for reply in replies] == [b"nine:hello", b"four:\x00\xff"]


def test_a_reply_knows_what_it_answers_and_from_where(grid: LoopbackGrid) -> None:
    (name,) = grid.push_messages([question(9)])
    (reply,) = grid.pull_messages([name])
    metadata = reply.metadata
    assert metadata.reply_to_message_id == name
    assert metadata.message_id not in {"", name}
    assert (metadata.run_id, metadata.src_node_id, metadata.dst_node_id) == (RUN_ID, 9, 1)
    assert (metadata.message_type, metadata.group_id) == (QUERY, "g")


def test_every_message_has_its_own_id(grid: LoopbackGrid) -> None:
    names = list(grid.push_messages([question(4) for _ in range(5)]))
    assert len(set(names)) == 5


def test_each_reply_is_handed_out_once_and_only_to_who_asks_for_it(grid: LoopbackGrid) -> None:
    first, second = grid.push_messages([question(4), question(9)])
    assert len(list(grid.pull_messages([second, "unknown"]))) == 1
    assert list(grid.pull_messages([second])) == []
    assert len(list(grid.pull_messages([first, second]))) == 1


def test_sending_and_receiving_is_pushing_and_pulling(grid: LoopbackGrid) -> None:
    replies = grid.send_and_receive([question(4), question(9)], timeout=0.0)
    assert [wire.unpack_reply(reply) for reply in replies] == [b"four:hello", b"nine:hello"]


def test_what_arrives_went_through_flowers_codec(grid: LoopbackGrid) -> None:
    sent = question(4)
    (name,) = grid.push_messages([sent])
    (reply,) = grid.pull_messages([name])
    record = sent.content[wire.RECORD]
    assert isinstance(record, ConfigRecord)
    record[wire.FIELD] = b"changed afterwards"
    assert wire.unpack_reply(reply) == b"four:hello"


def test_an_error_reply_arrives_as_an_error(grid: LoopbackGrid) -> None:
    (reply,) = grid.send_and_receive([question(4, kind="query.refuse")])
    assert reply.has_error()
    assert not reply.has_content()
    assert (reply.error.code, reply.error.reason) == (7, "so")


def test_an_app_that_raises_is_a_defect_and_ends_the_run_loudly(grid: LoopbackGrid) -> None:
    # A deployed Flower would send the exception's text to the server instead: our apps never raise (below).
    with pytest.raises(RuntimeError, match="must not be swallowed"):
        grid.push_messages([question(4, kind="query.fail")])


def test_waiting_takes_no_time_of_anybodys(grid: LoopbackGrid) -> None:
    before, began = grid.clock(), time.monotonic()
    grid.sleep(3600)
    assert grid.clock() == before + 3600
    assert time.monotonic() - began < 60


def test_it_knows_its_nodes_and_its_run(grid: LoopbackGrid) -> None:
    assert list(grid.get_node_ids()) == [4, 9]
    assert grid.run.run_id == RUN_ID
    grid.set_run(Run.create_empty(5))
    assert grid.run.run_id == 5


def test_a_message_it_makes_is_one_it_delivers(grid: LoopbackGrid) -> None:
    message = grid.create_message(wire.pack(b"hello"), QUERY, 4, "g", ttl=5.0)
    assert [wire.unpack_reply(reply) for reply in grid.send_and_receive([message])] == [b"four:hello"]


# The units' app behind it


def ask_one(config: dict[str, str], content: RecordDict) -> bytes:
    grid = LoopbackGrid(make_client_app(SimulatedNoise(1)), {1: config})
    (reply,) = grid.send_and_receive([Message(content, 1, wire.MESSAGE_TYPE)])
    assert not reply.has_error()
    return wire.unpack_reply(reply)


def test_whatever_goes_wrong_the_reply_is_the_one_word_unavailable(federation: SmallFederation, tmp_path: Path) -> None:
    home, plan = str(federation.path / "north"), federation.plan
    request = wire.pack(request_bytes(plan.digest, some_request(plan, 0)))
    unavailable = {
        ask_one({}, request),
        ask_one({"home": str(tmp_path)}, request),
        ask_one({"home": home}, RecordDict()),
        ask_one({"home": home}, wire.pack(b"")),
        ask_one({"home": home}, wire.pack(b"junk")),
        ask_one({"home": home}, wire.pack(request_bytes("ab" * 32, some_request(plan, 0)))),
    }
    federation.customers_file("north").unlink()
    unavailable.add(ask_one({"home": home}, request))
    (federation.path / "north" / "policy.yaml").write_bytes(b"changed")
    unavailable.add(ask_one({"home": home}, request))
    (federation.path / "north" / "ledger.db").write_bytes(b"no ledger")
    unavailable.add(ask_one({"home": home}, request))
    assert unavailable == {wire.encode_unavailable()}


def test_an_unexpected_error_leaves_neither_its_text_nor_a_traceback(
    federation: SmallFederation, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenNoise(SimulatedNoise):  # type: ignore[misc] # a final class; a defect could be anywhere
        def random_bytes(self, n: int) -> bytes:
            raise ZeroDivisionError("a customer's value: 4711")

    with caplog.at_level(logging.DEBUG):
        replies = ask(federation.grid(BrokenNoise(1)), federation.plan, some_request(federation.plan, 0))
    assert replies == [wire.encode_unavailable()] * 2
    assert "code=E100 what=ZeroDivisionError\n" in caplog.text
    assert "4711" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_unit_answers_again_with_the_same_bytes_and_refuses_another_request(federation: SmallFederation) -> None:
    plan, grid = federation.plan, federation.grid()
    first = ask(grid, plan, some_request(plan, 0))
    assert ask(grid, plan, some_request(plan, 0)) == first
    assert ask(grid, plan, some_request(plan, 0, seed=1)) == [wire.encode_unavailable()] * 2
