"""The server's side of a link, over its socket: nodes, runs, and the grid of a run."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import run_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from google.protobuf.message import Error as ProtobufError

from fedseg.errors import DeploymentError, UnreachableError
from fedseg.federation.flower.bundle import stub_bundle
from fedseg.federation.flower.sockets import TASK_POLL_SECONDS, Heartbeat, over_socket, runtime_client, unreachable

log = logging.getLogger(__name__)

ONLINE: Final = "online"
PARTS_SECONDS: Final = 180.0
"""Longest wait for the parts of a reply that its node has announced: as long as Flower leaves it to upload them."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A registered node as the link knows it."""

    unit: str
    node_id: int
    online: bool
    last_seen: str
    """ISO time until which it counts as connected, or since which it does not; empty if it never was."""
    public_key: bytes
    """As Flower compares it: PEM."""

    def has_key(self, public_key: bytes) -> bool:
        """Whether its key is this one, in OpenSSH's format."""
        return self.public_key == public_key_to_bytes(_on_a_curve(public_key))


def _on_a_curve(public_key: bytes) -> ec.EllipticCurvePublicKey:
    key = load_ssh_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it is not a public key on an elliptic curve")  # noqa: TRY004 (the file's content, no type)
    return key


class LinkGrid(HttpGrid):
    """Flower's grid over the link's socket; what goes wrong on the way are errors of ours."""

    def __init__(self, path: Path, token: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(token=token, insecure=True)
        self._path, self._clock = path, clock
        self._announced: dict[str, _Announced] = {}
        self._client = runtime_client(path, "flwr-serverapp", token)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of the nodes that are connected.

        Raises:
            UnreachableError, RunLostError: If the link is down or does not know the run any more.
        """
        try:
            return super().get_node_ids()
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages; errors as `get_node_ids`."""
        try:
            return super().push_messages(messages)
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there as a whole; errors as `get_node_ids`.

        The link hands a reply out once, as soon as its node has announced it. Until its parts are there it is kept
        here, so that one node's slow way holds nobody up. One that cannot be read, or whose parts do not come, is
        Flower's error for a lost one. A reply belongs to the request that the link says it answers.
        """
        wanted = [*message_ids]
        replies: list[Message] = []
        try:
            unheard = [name for name in wanted if name not in self._announced]
            if unheard:
                found = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=unheard))
                for head, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                    self._announce(metadata_from_proto(head.metadata), tree)
            for name in filter(self._announced.__contains__, wanted):
                reply = self._reply(name)
                replies += [] if reply is None else [reply]
        except httpx.HTTPError as error:
            if not replies:  # what is whole is handed over first; a link that is down is so at the next look as well
                raise unreachable(self._path, error) from None
        return replies

    def _announce(self, head: Metadata, tree: ObjectTree) -> None:
        missing = [one.object_id for one in iterate_object_tree(tree)]
        self._announced[head.reply_to_message_id] = _Announced(head, missing, self._clock() + PARTS_SECONDS)

    def _reply(self, name: str) -> Message | None:
        """The announced reply to the request `name`, once all of it is there."""
        one = self._announced[name]
        try:
            self._pull_parts(one)
            reply = inflate_object_from_contents(one.head.message_id, one.parts)
            if not isinstance(reply, Message):
                raise TypeError("a reply's root is no message")  # noqa: TRY301 (as unreadable as the others)
            reply.metadata.__dict__["_reply_to_message_id"] = name
        except ObjectUnavailableError:
            if self._clock() < one.until:
                return None
            reply = _lost(one.head, "its parts did not come")
        except (ObjectPullError, ValueError, LookupError, TypeError, AttributeError, ProtobufError) as error:
            reply = _lost(one.head, type(error).__name__)
        del self._announced[name]
        return reply

    def _pull_parts(self, one: "_Announced") -> None:
        """Pull what is still missing of a reply, and tell the link that it may forget it."""
        client, run_id = self._runtime_client, self.run.run_id
        pull = make_pull_object_fn_protobuf(client.PullObject, self.node, run_id)
        while one.missing:
            one.parts[one.missing[-1]] = pull(one.missing[-1])
            one.missing.pop()
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self.node, run_id=run_id, message_object_id=one.head.message_id)
        )


@dataclass(slots=True)
class _Announced:
    """A reply that the link has handed out, of which parts may still be on their way."""

    head: Metadata
    missing: list[str]
    until: float
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])


def _lost(head: Metadata, why: str) -> Message:
    log.warning("reply.unreadable why=%s", why)
    return make_message(metadata=head, error=Error(code=ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason=""))


class ServerTask:
    """A run in the hands of this process: its grid, and a heartbeat until the block is left."""

    def __init__(self, path: Path, token: str) -> None:
        self._grid = LinkGrid(path, token)
        self._client = runtime_client(path, "flwr-serverapp", token)
        self._path = path
        try:
            answer = self._client.PullTaskInput(PullTaskInputRequest())
        except httpx.HTTPError as error:
            raise unreachable(path, error) from None
        TaskIdentity.task_id = answer.task_id
        TaskIdentity.run_id = answer.run.run_id
        TaskIdentity.node_id = answer.context.node_id
        self.run_id: int = answer.run.run_id
        self._grid.set_run(run_from_proto(answer.run))
        self._heartbeat = Heartbeat(self._client)

    @property
    def grid(self) -> HttpGrid:
        """The transport of this run."""
        return self._grid

    def finish(self, completed: bool) -> None:
        """Tell the link that the run has ended; that it cannot be told is logged and no harm."""
        status = SubStatus.COMPLETED if completed else SubStatus.FAILED
        try:
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))
        except httpx.HTTPError:
            log.warning("run.end_not_told run=%d", self.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat.close()
        self._client.close()
        self._grid.close()


class Link:
    """The SuperLink's control and run-time side, over its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._control = over_socket(
            path,
            ControlHttpClient("http://localhost", interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")]),
        )
        self._runtime = runtime_client(path, "SuperExec")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._runtime.close()

    def register(self, unit: str, public_key: bytes) -> int:
        """Let the node with this public key (OpenSSH format) in, under the unit's name; returns its id.

        Raises:
            ValueError: If it is no public key on an elliptic curve.
            DeploymentError: If the link refuses it, as for a key that is registered already.
            UnreachableError: If the link is down.
        """
        request = RegisterNodeRequest(public_key=public_key_to_bytes(_on_a_curve(public_key)), name=unit)
        try:
            return self._control.RegisterNode(request).node_id
        except httpx.HTTPStatusError as error:
            raise DeploymentError(
                f"Flower does not register the key of {unit}",
                why=f"it answers {error.response.status_code}: most likely this key is registered already",
                fix="fedseg server status DIR",
            ) from None
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None

    def unregister(self, node_id: int) -> None:
        """Put a node out; one that is out already stays so.

        Raises:
            UnreachableError: If the link is down.
        """
        if not self._granted(lambda: self._control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))):
            log.info("node.out_already node=%d", node_id)

    def nodes(self) -> list[NodeInfo]:
        """All registered nodes, by unit.

        Raises:
            UnreachableError: If the link is down.
        """
        found = self._call(lambda: self._control.ListNodes(ListNodesRequest())).nodes_info
        listed = [
            NodeInfo(
                unit=node.name,
                node_id=node.node_id,
                online=node.status == ONLINE,
                last_seen=node.last_deactivated_at or node.last_activated_at or "",
                public_key=node.public_key,
            )
            for node in found
            if not node.unregistered_at
        ]
        return sorted(listed, key=lambda node: node.unit)

    def start_run(self, bundle: bytes | None = None) -> int:
        """Start a run of the stub and return its id.

        Raises:
            UnreachableError: If the link is down or refuses it.
        """
        content = stub_bundle() if bundle is None else bundle
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        answer = self._call(lambda: self._control.StartRun(StartRunRequest(fab=fab)))
        if not answer.HasField("run_id"):
            raise UnreachableError(
                "Flower did not start the run", why="it gives its reason in link.log", fix="fedseg server status DIR"
            )
        return answer.run_id

    def stop_run(self, run_id: int) -> None:
        """End a run that a killed process has left; one that is over or unknown stays so.

        Raises:
            UnreachableError: If the link is down.
        """
        if not self._granted(lambda: self._control.StopRun(StopRunRequest(run_id=run_id))):
            log.info("run.over_already run=%d", run_id)

    def acquire(self, run_id: int, *, timeout: float) -> ServerTask:
        """Take the task of run `run_id`, ending any other that waits there.

        Raises:
            UnreachableError: If the link is down, or does not hand the task out within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        while True:
            answer = self._call(lambda: self._runtime.AcquireTask(request))
            if answer.HasField("task") and answer.token:
                task = ServerTask(self._path, answer.token)
                if task.run_id == run_id:
                    return task
                with task:  # of a run that nobody here has started
                    task.finish(completed=False)
            if time.monotonic() >= end:
                raise UnreachableError(
                    "the link hands out no task for the run it has started",
                    why=f"waited {timeout:g} s for run {run_id}",
                    fix="see link.log; restart with: fedseg server stop DIR, then fedseg server start DIR",
                )
            time.sleep(TASK_POLL_SECONDS)

    def _granted(self, call: Callable[[], object]) -> bool:
        """Whether the link does it; what is so already it refuses. One with an error of its own counts as down."""
        try:
            call()
        except httpx.HTTPStatusError as error:
            if error.response.is_server_error:
                raise unreachable(self._path, error) from None
            return False
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None
        return True

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None
