"""`SmallLink`: what a coordinator needs of Flower's link, over the transport in this process instead of a socket.

Units, ledgers, apps and messages are the real ones. A test says when the link fails and what happens meanwhile.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self, cast

from flwr.app import Message
from flwr.serverapp import Grid

from fedseg.errors import UnreachableError
from fedseg.federation.flower.link import Link, NodeInfo
from tests.small_federation import SmallFederation
from tests.wrapped_grid import WrappedGrid


def unreachable() -> UnreachableError:
    return UnreachableError("nobody answers at link.sock", why="ConnectError", fix="fedseg server status DIR")


@dataclass
class SmallLink:
    """Runs that were started and have not ended, and how each one ended."""

    federation: SmallFederation
    down: int = 0
    """How many of the next connections fail."""
    on_reply: Callable[[], None] = lambda: None
    """Called before each reply that a run gets; what it raises happens on the way."""
    online: tuple[str, ...] = ("north", "south")
    """Units whose replies arrive."""
    started: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    ended: dict[int, bool] = field(default_factory=dict)

    def connect(self) -> Link:
        return cast("Link", self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def nodes(self) -> list[NodeInfo]:
        if self.down:
            self.down -= 1
            raise unreachable()
        return [
            NodeInfo(unit, node, unit in self.online, "2025-06-01T12:00:00+00:00", b"")
            for unit, node in self.federation.roster.items()
        ]

    def start_run(self) -> int:
        self.started.append(len(self.started) + 1)
        return self.started[-1]

    def stop_run(self, run_id: int) -> None:
        self.stopped.append(run_id)

    def acquire(self, run_id: int, *, timeout: float) -> "SmallTask":
        return SmallTask(self, run_id)


@dataclass
class SmallTask:
    """One run in the coordinator's hands."""

    link: SmallLink
    run_id: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    @property
    def grid(self) -> Grid:
        return WatchedGrid(self.link)

    def finish(self, completed: bool) -> None:
        self.link.ended[self.run_id] = completed


class WatchedGrid(WrappedGrid):
    """The units' transport, on which a test may let something happen before each reply."""

    def __init__(self, link: SmallLink) -> None:
        super().__init__(link.federation.grid())
        self.link = link

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        here = [self.link.federation.roster[unit] for unit in self.link.online]
        return [self._push(message) if message.metadata.dst_node_id in here else "" for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """One reply at most, so that something may happen between any two."""
        for name in message_ids:
            self.link.on_reply()
            return self.inner.pull_messages([name])
        return []

    def _push(self, message: Message) -> str:
        return next(iter(self.inner.push_messages([message])))
