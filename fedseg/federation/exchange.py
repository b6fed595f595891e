"""Sending one request to all nodes and collecting replies until quorum, deadline, or all have answered."""

import time
from collections.abc import Callable, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fedseg.federation import wire

POLL_SECONDS = 0.2


def exchange(
    grid: Grid,
    nodes: Sequence[int],
    request: bytes,
    *,
    deadline_seconds: float,
    take: Callable[[Message], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Push `request` to `nodes` and hand each reply to `take` as it comes.

    Replies are matched by the request they answer, never by the sender Flower names (its own errors come from node 1).
    Returns when every node has answered or the deadline has passed; never waits longer.

    Args:
        grid: Flower's transport.
        nodes: Whom to ask.
        request: The same bytes for everyone.
        deadline_seconds: Longest wait.
        take: Persists and judges one reply; what it returns does not stop the others.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """
    end = clock() + deadline_seconds
    messages = [
        Message(
            wire.pack(request),
            dst_node_id=node,
            message_type=wire.MESSAGE_TYPE,
            group_id="fedseg",
            ttl=deadline_seconds,
        )
        for node in nodes
    ]
    waiting = set(grid.push_messages(messages))
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            waiting.discard(reply.metadata.reply_to_message_id)
            take(reply)
        left = end - clock()
        if not waiting or left <= 0:
            return
        sleep(min(POLL_SECONDS, left))
