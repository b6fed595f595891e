"""`LoopbackGrid`: Flower's `Grid` in one process. It calls the real `ClientApp` through Flower's real codec.

Server and client app cannot tell it from a network. Faults are injected by a grid that wraps this one.
"""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1


class LoopbackGrid(Grid):
    """Nodes in this process, one `Context` each, called one after another."""

    def __init__(self, client_app: ClientApp, node_configs: Mapping[int, Mapping[str, str]]) -> None:
        # Flower 1.41 reads these class attributes whenever a Message is made; its own runtimes set them the same way.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, 1
        self._app = client_app
        self._run = Run.create_empty(RUN_ID)
        self._contexts = {
            node: Context(RUN_ID, node, dict(config), RecordDict(), {}) for node, config in node_configs.items()
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:  # Flower leaves the argument's type to its grids
        """Set the run, as Flower's server process does."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid belongs to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message; deprecated in Flower, kept for its interface."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message to its node and keep the reply; the id of every message, in order."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages that are there; each is handed out once, as by a real link."""
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and collect at once."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        name = uuid.uuid4().hex
        message.metadata.__dict__["_message_id"] = name
        arrived = message_from_proto(message_to_proto(message))
        reply = self._app(arrived, self._contexts[arrived.metadata.dst_node_id])
        returned = message_from_proto(message_to_proto(reply))
        returned.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        self._replies[name] = returned
        return name
