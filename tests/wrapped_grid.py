"""A grid around another one: what a test changes on the way it overrides, the rest is passed on."""

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fedseg.federation.loopback import LoopbackGrid


class WrappedGrid(Grid):
    """Everything as the inner grid does it."""

    def __init__(self, inner: LoopbackGrid) -> None:
        self.inner = inner

    def clock(self) -> float:
        return self.inner.clock()

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)

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
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.inner.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))
