"""`LoopbackGrid`: Flower's `Grid` in one process. It calls the real `ClientApp` through Flower's real codec.

Server and client app cannot tell it from a network. Faults are injected by a grid that wraps this one.
"""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedseg.federation.flower.messages import be_task, through_codec

RUN_ID = 1


class LoopbackGrid(Grid):
    """Nodes in this process, one `Context` each, called one after another.

    It has a time of its own: no reply is ever under way, so waiting for one takes no time of anybody's.
    """

    def __init__(self, client_app: ClientApp, node_configs: Mapping[int, Mapping[str, str]]) -> None:
        self._app = client_app
        self._run = be_task(RUN_ID)
        self._contexts = {
            node: Context(RUN_ID, node, dict(config), RecordDict(), {}) for node, config in node_configs.items()
        }
        self._replies: dict[str, Message] = {}
        self._now = 0.0

    def clock(self) -> float:
        """Seconds that were waited so far."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def set_run(self, run: Any) -> None:  # Flower leaves the argument's type to its grids
        """Set the run, as Flower's server process does."""
        self._run = run

    @property
    def run(self) -> Any:  # a Run, whose type is Flower's own
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
        arrived = through_codec(message)
        reply = self._app(arrived, self._contexts[arrived.metadata.dst_node_id])
        returned = through_codec(reply)
        returned.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        self._replies[name] = returned
        return name
