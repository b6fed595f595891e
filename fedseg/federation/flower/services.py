"""Flower's two servers, on sockets: the link of the coordinator, and the node that speaks to it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supernode.nodestate import InMemoryNodeState, NodeState, NodeStateFactory

from fedseg.errors import NotAdmittedError
from fedseg.federation.flower.sockets import listen, web_server

PARTS_SECONDS: Final = 60.0
"""Longest wait for the parts of a reply that the runner has announced."""
HASTE: Final = 3
"""How many times shorter a node's waits are than Flower's, whose 3 s between two questions make up most of a round."""


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


class UnitStore(InMemoryObjectStore):
    """A node's store of message parts, which says so when an announced part does not come.

    Flower's node waits without end for the parts of a reply whose runner was killed while handing it over.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._missing_since: dict[str, float] = {}

    def get(self, object_id: str) -> bytes | None:
        """The part; empty while it is only announced.

        Raises:
            TimeoutError: If it was asked for in vain for `PARTS_SECONDS`.
        """
        content = super().get(object_id)
        if content != b"":
            self._missing_since.pop(object_id, None)
            return content
        if self._clock() - self._missing_since.setdefault(object_id, self._clock()) > PARTS_SECONDS:
            del self._missing_since[object_id]
            raise TimeoutError("a part of a reply was announced and did not come")
        return content


class _UnitStores(ObjectStoreFactory):
    def store(self) -> ObjectStore:
        if self.store_instance is None:
            self.store_instance = UnitStore()
        return self.store_instance


class _UnitStates(NodeStateFactory):
    def __init__(self, connected: Callable[[int], None]) -> None:
        super().__init__(_UnitStores())
        self._connected = connected

    def state(self) -> NodeState:
        with self.lock:
            if self.state_instance is None:
                self.state_instance = _UnitState(self.objectstore_factory.store(), self._connected)
            return self.state_instance


class _ImpatientTime:
    """The `time` that Flower's node loop sees: its fixed waits are `HASTE` times as short."""

    time = staticmethod(time.time)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / HASTE)


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
    # Flower would open the bundle here for its settings, which nobody reads: the runner takes none from the server.
    node.get_fused_config_from_fab = lambda *_: {}  # type: ignore[attr-defined, assignment, unused-ignore]
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
