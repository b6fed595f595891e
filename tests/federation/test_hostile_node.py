"""A registered node that sends what it should not: its reply counts as lost, at once, and nobody else notices."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedseg.deploy.certificates import new_node_key
from fedseg.errors import UnreachableError
from fedseg.federation import wire
from fedseg.federation.flower.link import PARTS_SECONDS, Link, ServerTask
from fedseg.federation.flower.sockets import over_socket

# httpcore leaves a socket that failed to connect, as while the link starts, to the garbage collector.
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

LOST = 4
"""Flower's code for a reply that cannot be had."""


class HostileNode:
    """A node with a key that the link knows, whose program is not ours."""

    def __init__(self, socket: Path, link: Link) -> None:
        pair = new_node_key("north")
        key = load_ssh_private_key(pair.private, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.node_id = link.register("north", pair.public)
        guards: list[Any] = [
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(key, key.public_key()),
        ]
        self.client = over_socket(socket, FleetHttpClient("http://localhost", interceptors=guards))
        self.client.ActivateNode(
            ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=600)
        )

    def reply(self, run_id: int, how: str) -> Callable[[], None]:
        """Answer the request that waits, as it should be or not; returns what uploads the parts held back."""
        node = Node(node_id=self.node_id)
        asked = self.client.PullMessages(PullMessagesRequest(node=node)).messages_list[0]
        request = message_from_proto(asked)
        request.metadata.__dict__["_message_id"] = asked.metadata.message_id
        made = Message(wire.pack(b"an answer"), reply_to=request)
        made.metadata.__dict__["_message_id"] = made.object_id
        with no_object_id_recompute():
            tree = get_object_tree(made)
            parts = {name: one.deflate() for name, one in get_all_nested_objects(made).items()}
            head = message_to_proto(remove_content_from_message(made))
        if how in {"garbage", "no message"}:
            body = b"\xff" * 20
            whole = b"Message  %d\x00" % len(body) + body if how == "garbage" else ConfigRecord({"a": 1}).deflate()
            name = get_object_id(whole)
            head.metadata.message_id, tree, parts = name, ObjectTree(object_id=name), {name: whole}
        pushed = self.client.PushMessages(
            PushMessagesRequest(
                node=node, messages_list=[head], message_object_trees=[tree], clientapp_runtime_list=[0.0]
            )
        )

        def upload() -> None:
            for name in pushed.objects_to_push:
                part = PushObjectRequest(
                    node=node, run_id=run_id, object_id=name, object_content=parts[name], session_id=pushed.session_id
                )
                self.client.PushObject(part)

        if how not in {"announced only", "late"}:
            upload()
        return upload


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Link]]:
    """A real link process on its socket."""
    place = tmp_path_factory.mktemp("link")
    command = [sys.executable, "-m", "fedseg.federation.link"]
    command += ["--database", str(place / "link.db"), "--socket", str(place / "link.sock")]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "FLWR_HOME": str(place)})
    try:
        with Link(place / "link.sock") as made:
            end = time.monotonic() + 60
            while True:
                try:
                    made.nodes()
                    break
                except UnreachableError:
                    assert time.monotonic() < end, (place / "log").read_text("utf-8")
                    time.sleep(0.2)
            yield place / "link.sock", made
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def node(link: tuple[Path, Link]) -> Iterator[HostileNode]:
    made = HostileNode(*link)
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def task(link: tuple[Path, Link]) -> Iterator[ServerTask]:
    run_id = link[1].start_run()
    with link[1].acquire(run_id, timeout=20) as made:
        yield made


def ask(task: ServerTask, node: HostileNode) -> list[str]:
    message = Message(
        wire.pack(b"?"), dst_node_id=node.node_id, message_type=wire.MESSAGE_TYPE, group_id=wire.GROUP, ttl=600
    )
    return [*task.grid.push_messages([message])]


def test_a_reply_as_it_should_be_is_read_and_answers_its_request(task: ServerTask, node: HostileNode) -> None:
    ids = ask(task, node)
    node.reply(task.run_id, "well")
    (reply,) = task.grid.pull_messages(ids)
    assert wire.unpack_reply(reply) == b"an answer"
    assert [reply.metadata.reply_to_message_id] == ids


@pytest.mark.parametrize("how", ["garbage", "no message"])
def test_a_reply_that_cannot_be_read_is_a_lost_one(how: str, task: ServerTask, node: HostileNode) -> None:
    ids = ask(task, node)
    node.reply(task.run_id, how)
    (reply,) = task.grid.pull_messages(ids)
    check_lost(reply, ids)


def test_a_reply_whose_parts_do_not_come_holds_nobody_up_and_is_lost_in_the_end(
    task: ServerTask, node: HostileNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ask(task, node)
    node.reply(task.run_id, "announced only")
    began = time.monotonic()
    assert list(task.grid.pull_messages(ids)) == []
    assert list(task.grid.pull_messages(ids)) == []
    assert time.monotonic() - began < 9
    monkeypatch.setattr(task.grid, "_clock", lambda: began + PARTS_SECONDS + 9)
    (reply,) = task.grid.pull_messages(ids)
    check_lost(reply, ids)


def test_a_reply_that_takes_its_time_to_arrive_is_read_when_all_of_it_is_there(
    task: ServerTask, node: HostileNode
) -> None:
    ids = ask(task, node)
    upload = node.reply(task.run_id, "late")
    assert list(task.grid.pull_messages(ids)) == []
    upload()
    (reply,) = task.grid.pull_messages(ids)
    assert wire.unpack_reply(reply) == b"an answer"


def check_lost(reply: Message, ids: list[str]) -> None:
    assert reply.has_error()
    assert reply.error.code == LOST
    assert [reply.metadata.reply_to_message_id] == ids
