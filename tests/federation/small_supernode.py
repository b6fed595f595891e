"""Flower's own run-time interface of a node, in this process: what a runner talks to, without a server behind it."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode import start_client_internal
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from fedseg.federation import wire
from fedseg.federation.flower.messages import be_task
from fedseg.federation.flower.sockets import listen, web_server

NODE_ID = 77


@dataclass
class SmallSuperNode:
    """A node's state as Flower keeps it, reachable over a socket."""

    socket: Path
    states: NodeStateFactory

    def ask(
        self,
        request: bytes,
        *,
        bundle: bytes,
        run_id: int = 5,
        claimed_hash: str | None = None,
        message_type: str = wire.MESSAGE_TYPE,
    ) -> Message:
        """Put one instruction in the node's hands, as its network loop does, with this bundle behind the run."""
        run = be_task(run_id)
        run.fab_hash = hashlib.sha256(bundle).hexdigest() if claimed_hash is None else claimed_hash
        run.series_id = run_id
        state = self.states.state()
        state.set_node_id(NODE_ID)
        context = Context(run_id, NODE_ID, {"home": "/the/server/cannot/say"}, RecordDict(), {"epsilon": 9})
        state.set_run_series_context(run_id, context)
        state.store_run(run)
        state.store_fab(Fab(run.fab_hash, bundle, {}))
        message = Message(wire.pack(request), NODE_ID, message_type, group_id=wire.GROUP)
        state.create_task(task_type=TaskType.CLIENT_APP, run_id=run_id, fab_hash=run.fab_hash)
        start_client_internal._insert_message(message, state, self.states.objectstore_factory.store())
        return message

    def replies(self) -> list[bytes]:
        """The bytes of the replies that wait to be sent to the server."""
        store = self.states.objectstore_factory.store()
        found = []
        for message in self.states.state().get_messages_legacy(is_reply=True):
            tree = store.get_object_tree(message.metadata.message_id)
            contents = {one.object_id: store.get(one.object_id) or b"" for one in iterate_object_tree(tree)}
            whole = inflate_object_from_contents(message.metadata.message_id, contents)
            assert isinstance(whole, Message)
            found.append(wire.unpack_reply(whole))
        return found


@contextmanager
def small_supernode(socket: Path) -> Iterator[SmallSuperNode]:
    """The interface, for the length of a test."""
    states = NodeStateFactory(ObjectStoreFactory())
    server = web_server(create_app(states, None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listen(socket)]})
    thread.start()
    end = time.monotonic() + 20
    while not server.started and time.monotonic() < end:
        time.sleep(0.02)
    assert server.started, "the run-time interface did not start within 20 s"
    try:
        yield SmallSuperNode(socket, states)
    finally:
        server.should_exit = True
        thread.join(20)
