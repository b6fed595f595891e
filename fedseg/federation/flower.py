"""Flower's inside, in one place: every name that Flower does not promise to keep is imported here and nowhere else.

Flower's own programs open a TCP port for each interface and run the code that the server sends. These functions make
the same servers and clients listen on and speak over Unix sockets, so that who may reach them is a file's permission,
and hand out tasks without unpacking the bundle that comes with them. Another Flower version is refused at import.
"""

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import flwr
import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from flwr.app import Context, Message, RecordDict
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, SUPERLINK_NODE_ID, SubStatus
from flwr.common.serde import fab_from_proto, message_from_proto, message_to_proto, run_from_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest, StopRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from flwr.supernode.nodestate import InMemoryNodeState, NodeState, NodeStateFactory
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from fedseg.errors import BundleError, DeploymentError, NotAdmittedError, RunLostError, UnreachableError
from fedseg.federation import wire
from fedseg.plan import Plan
from fedseg.server.contribution import payload_bytes

FLOWER: Final = "1.41."
if not flwr.__version__.startswith(FLOWER):
    raise ImportError(f"fedseg works with Flower {FLOWER}*, and this is {flwr.__version__}: install flwr=={FLOWER}*")

log = logging.getLogger(__name__)

NODE_POLL_SECONDS: Final = 1.0
"""How long a node waits before it asks for work again; Flower's own 3 s make up most of a round."""
TASK_POLL_SECONDS: Final = 0.2
CALL_SECONDS: Final = 30.0
"""Longest wait for one answer over a socket."""
ONLINE: Final = "online"
_MAX_ID: Final = 2**64 - 1

Client = TypeVar("Client", bound=ProtobufClient)
Answer = TypeVar("Answer")


# ---------------------------------------------------------------------------------------------------------- sockets


def web_server(app: Any) -> uvicorn.Server:
    """A quiet server for one of Flower's web applications; it speaks no WebSocket."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))


def listen(path: Path) -> socket.socket:
    """A Unix socket at `path` that its owner and group may use."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o660)
    return made


def _over(path: Path, client: Client) -> Client:
    """The same client, speaking over the Unix socket at `path`; it never retries by itself."""
    made = httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=CALL_SECONDS)
    client._client.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    client._client = made  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return client


def _runtime(path: Path, name: str, token: str | None = None) -> RuntimeHttpClient:
    interceptors: list[Any] = [RuntimeVersionHttpInterceptor(component_name=name)]
    interceptors += [RuntimeTokenHttpInterceptor(token)] if token else []
    return _over(path, RuntimeHttpClient("http://localhost", interceptors=interceptors))


def _unreachable(path: Path, error: httpx.HTTPError) -> UnreachableError | RunLostError:
    """What a failed call over a socket means. Flower's text is left out: what a peer sends is no text of ours."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
        return RunLostError(
            "Flower does not know this task any more",
            why="its run has ended, or the process that handed it out has restarted",
            fix="nothing to do: the run is started again and goes on from the ledger",
        )
    return UnreachableError(
        f"nobody answers at {path}",
        why=type(error).__name__,
        fix="see `fedseg server status DIR` or `fedseg node status DIR`",
    )


# ------------------------------------------------------------------------------------------------- the two services


def serve_link(database: Path, path: Path) -> None:
    """Run a SuperLink with node authentication on the Unix socket `path` until told to stop.

    Server apps run in a process of their own (`Link.acquire`), never from a bundle; nothing is installed at run time.
    """
    # The server's half of Flower takes 1 s and 60 MB, which no node should pay.
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan  # noqa: PLC0415
    from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin  # noqa: PLC0415
    from flwr.superlink.main import create_app  # noqa: PLC0415

    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="",
        port=0,
        insecure=True,  # the socket is no network; the proxy in front of it speaks TLS
        certificates=None,
        superexec_auth_secret=None,  # who may open the socket may ask for tasks
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(database),
        isolation="process",
        runtime_dependency_install=False,
    )
    app = create_app(config, SuperLinkLifespan)
    web_server(app).run(sockets=[listen(path)])


class _UnitState(InMemoryNodeState):
    """A node's state that tells when the server has let it in, and tells the server nothing about working time."""

    def __init__(self, store: Any, connected: Callable[[int], None]) -> None:
        super().__init__(store)
        self._connected = connected

    def set_node_id(self, node_id: int | None) -> None:
        super().set_node_id(node_id)
        if node_id is not None:
            self._connected(node_id)

    def get_message_processing_duration(self, message_id: str) -> float:
        """Zero: Flower would send the server how long the unit computed, to the microsecond."""
        super().get_message_processing_duration(message_id)
        return 0.0


class _UnitStates(NodeStateFactory):
    def __init__(self, connected: Callable[[int], None]) -> None:
        super().__init__(ObjectStoreFactory())
        self._connected = connected

    def state(self) -> NodeState:
        with self.lock:
            if self.state_instance is None:
                self.state_instance = _UnitState(self.objectstore_factory.store(), self._connected)
            return self.state_instance


class _ImpatientTime:
    """The `time` that Flower's node loop sees: its fixed waits are cut to `NODE_POLL_SECONDS`."""

    time = staticmethod(time.time)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, NODE_POLL_SECONDS))


def serve_node(server: str, ca: bytes, key: bytes, path: Path, connected: Callable[[int], None]) -> None:
    """Run a SuperNode that hands its tasks out over the Unix socket `path`; it executes nothing itself.

    Args:
        server: HOST:PORT of the server's proxy.
        ca: PEM of the authority that vouches for the server.
        key: The node's private key, on a NIST curve, in OpenSSH format.
        path: The runner's side.
        connected: Called with the node's id once the server has let it in.

    Raises:
        NotAdmittedError: If the server refuses the node, or is not the one the CA vouches for.
    """
    from flwr.supernode import start_client_internal as node  # noqa: PLC0415 (its loop is started once, here)
    from flwr.supernode.main import create_app  # noqa: PLC0415

    private = load_ssh_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise _not_admitted("its key is not on an elliptic curve of NIST's")
    states = _UnitStates(connected)
    runtime = web_server(create_app(states, None))
    threading.Thread(target=runtime.run, kwargs={"sockets": [listen(path)]}, daemon=True).start()
    node.time = _ImpatientTime  # type: ignore[attr-defined, assignment, unused-ignore]
    try:
        node.start_client_internal(
            state_factory=states,
            server_address=server,
            node_config={},
            root_certificates=ca,
            insecure=False,
            authentication_keys=(private, private.public_key()),
            isolation="process",
        )
    except SystemExit as stopped:
        if stopped.code:
            raise _not_admitted("Flower gives its reason above") from None
        raise


def _not_admitted(why: str) -> NotAdmittedError:
    return NotAdmittedError(
        "the server does not let this node in",
        why=f"{why}; its key is not registered, or a killed process of it still counts as connected for a minute",
        fix="send node.pub to the server's operator, for: fedseg server approve DIR UNIT --key node.pub",
    )


# --------------------------------------------------------------------------------------------- the tasks of a node


class _Heartbeat:
    """Tells the process that handed out a task that someone works on it, until closed."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.is_set():
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except (httpx.HTTPError, ValueError):
                log.warning("heartbeat.failed")
            self._ended.wait(HEARTBEAT_DEFAULT_INTERVAL / 3)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@dataclass(frozen=True)
class NodeTask:
    """One message for the unit, with the hash of the bundle it came with. Nothing of the bundle is unpacked."""

    message: Message
    context: Context
    bundle_sha256: str
    run_id: int
    _client: RuntimeHttpClient
    _path: Path
    _heartbeat: _Heartbeat

    def reply(self, message: Message) -> None:
        """Hand the reply over to the SuperNode.

        Raises:
            UnreachableError, RunLostError: If the SuperNode is gone or does not know the task any more.
        """
        try:
            push_message(self._client, message, self.context)
            push_task_output(client=self._client, context=None, sub_status=SubStatus.COMPLETED, details="")
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None

    def close(self) -> None:
        """Stop working on it."""
        self._heartbeat.close()
        self._client.close()


class NodeTasks:
    """The runner's side of a SuperNode."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._client = _runtime(path, "SuperExec")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def acquire(self) -> NodeTask | None:
        """The next task, if there is one.

        Raises:
            UnreachableError, RunLostError: If the SuperNode is gone.
            BundleError: If what came with the task cannot be read; nobody answers it.
        """
        try:
            answer = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
            if not (answer.HasField("task") and answer.token):
                return None
            client = _runtime(self._path, "flwr-clientapp", answer.token)
            message, context, run, bundle = pull_task_input(client)
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise BundleError(
                "what came with a run cannot be read",
                why=f"Flower's reader stops with {type(error).__name__}",
                fix="ask the server's operator which version of Flower and fedseg the server runs",
            ) from None
        # The hash that the run claims proves nothing: what counts are the bytes.
        digest = hashlib.sha256(bundle.content).hexdigest()
        return NodeTask(message, context, digest, run.run_id, client, self._path, _Heartbeat(client))


# ------------------------------------------------------------------------------------------ the server's side of it


def stub_bundle() -> bytes:
    """The bundle that Flower wants for every run. It holds no logic, and importing its one module fails."""
    return resources.files("fedseg.federation").joinpath("stub.fab").read_bytes()


def stub_sha256() -> str:
    """What a unit's allow-list holds unless it says otherwise."""
    return hashlib.sha256(stub_bundle()).hexdigest()


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


class LinkGrid(HttpGrid):
    """Flower's grid over the link's socket; what goes wrong on the way are errors of ours."""

    def __init__(self, path: Path, token: str) -> None:
        super().__init__(token=token, insecure=True)
        self._path = path
        self._client = _runtime(path, "flwr-serverapp", token)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of the nodes that are connected.

        Raises:
            UnreachableError, RunLostError: If the link is down or does not know the run any more.
        """
        try:
            return super().get_node_ids()
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages; errors as `get_node_ids`."""
        try:
            return super().push_messages(messages)
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies; errors as `get_node_ids`."""
        try:
            return super().pull_messages(message_ids)
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None


class ServerTask:
    """A run in the hands of this process: its grid, and a heartbeat until the block is left."""

    def __init__(self, path: Path, token: str) -> None:
        self._grid = LinkGrid(path, token)
        self._client = _runtime(path, "flwr-serverapp", token)
        self._path = path
        try:
            answer = self._client.PullTaskInput(PullTaskInputRequest())
        except httpx.HTTPError as error:
            raise _unreachable(path, error) from None
        TaskIdentity.task_id = answer.task_id
        TaskIdentity.run_id = answer.run.run_id
        TaskIdentity.node_id = answer.context.node_id
        self.run_id: int = answer.run.run_id
        self.bundle_sha256 = hashlib.sha256(fab_from_proto(answer.fab).content).hexdigest()
        self._grid.set_run(run_from_proto(answer.run))
        self._heartbeat = _Heartbeat(self._client)

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
        self._control = _over(
            path,
            ControlHttpClient("http://localhost", interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")]),
        )
        self._runtime = _runtime(path, "SuperExec")

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
        key = load_ssh_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is not a public key on an elliptic curve")  # noqa: TRY004 (the file's content, no type)
        request = RegisterNodeRequest(public_key=public_key_to_bytes(key), name=unit)
        try:
            return self._control.RegisterNode(request).node_id
        except httpx.HTTPStatusError as error:
            raise DeploymentError(
                f"Flower does not register the key of {unit}",
                why=f"it answers {error.response.status_code}: most likely this key is registered already",
                fix="fedseg server status DIR",
            ) from None
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None

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
        try:
            self._control.StopRun(StopRunRequest(run_id=run_id))
        except httpx.HTTPStatusError:
            log.info("run.over_already run=%d", run_id)
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None

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

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except httpx.HTTPError as error:
            raise _unreachable(self._path, error) from None


# ------------------------------------------------------------------------------------------- messages outside a run


def be_task(run_id: int) -> Run:
    """Let this process make messages of run `run_id`, as Flower's own programs do when they start; returns the run."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, SUPERLINK_NODE_ID
    return Run.create_empty(run_id)


def through_codec(message: Message) -> Message:
    """The message as it arrives at the other end of Flower's wire."""
    return message_from_proto(message_to_proto(message))


def largest_body_bytes(plan: Plan) -> int:
    """Length of the largest HTTP body that a node sends for this plan, by Flower's own encoding.

    It counts the reply's bytes, Flower's objects around them, and the announcement of the reply with its largest ids.
    """
    be_task(_MAX_ID)
    reply = Message(
        wire.pack(bytes(1 + max(payload_bytes(terms) for terms in plan.terms))),
        dst_node_id=_MAX_ID,
        message_type=wire.MESSAGE_TYPE,
        group_id=wire.GROUP,
    )
    reply.metadata.__dict__["_message_id"] = "f" * 64
    reply.metadata.__dict__["_reply_to_message_id"] = "f" * 64
    node = Node(node_id=_MAX_ID)
    with no_object_id_recompute():
        objects: Mapping[str, Any] = get_all_nested_objects(reply)
        pushes = [
            PushObjectRequest(
                node=node, run_id=_MAX_ID, object_id=name, object_content=one.deflate(), session_id="f" * 64
            )
            for name, one in objects.items()
        ]
        empty = Message(RecordDict(), dst_node_id=_MAX_ID, message_type=wire.MESSAGE_TYPE, group_id=wire.GROUP)
        announced = PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(empty)],
            message_object_trees=[get_object_tree(reply)],
            clientapp_runtime_list=[0.0],
        )
    sizes: list[int] = [announced.ByteSize(), *[push.ByteSize() for push in pushes]]
    return max(sizes)


def start_log() -> None:
    """Log this process to stderr: our lines and, from INFO up, Flower's, in one form and without colors."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    flowers = logging.getLogger("flwr")
    flowers.handlers.clear()
    flowers.setLevel(logging.INFO)
    flowers.propagate = True
    log.info("process.starting flower=%s pid=%d uid=%d", flwr.__version__, os.getpid(), os.getuid())
