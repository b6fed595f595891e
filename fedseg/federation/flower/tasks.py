"""The messages for a unit, as its runner takes them from the node's socket."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
from google.protobuf.message import Error as ProtobufError

from fedseg.errors import BundleError
from fedseg.federation.flower.sockets import Heartbeat, runtime_client, unreachable


@dataclass(frozen=True)
class NodeTask:
    """One message for the unit, with the hash of the bundle it came with. Nothing of the bundle is unpacked."""

    message: Message
    context: Context
    bundle_sha256: str
    run_id: int
    _client: RuntimeHttpClient
    _path: Path
    _heartbeat: Heartbeat

    def reply(self, message: Message) -> None:
        """Hand the reply over to the SuperNode.

        Raises:
            UnreachableError, RunLostError: If the SuperNode is gone or does not know the task any more.
        """
        try:
            push_message(self._client, message, self.context)
            push_task_output(client=self._client, context=None, sub_status=SubStatus.COMPLETED, details="")
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None

    def close(self) -> None:
        """Stop working on it."""
        self._heartbeat.close()
        self._client.close()


class NodeTasks:
    """The runner's side of a SuperNode."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._client = runtime_client(path, "SuperExec")

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
            client = runtime_client(self._path, "flwr-clientapp", answer.token)
            message, context, run, bundle = pull_task_input(client)
        except httpx.HTTPError as error:
            raise unreachable(self._path, error) from None
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, ProtobufError) as error:
            raise BundleError(
                "what came with a run cannot be read",
                why=f"Flower's reader stops with {type(error).__name__}",
                fix="ask the server's operator which versions of its software the server runs",
            ) from None
        # The hash that the run claims proves nothing: what counts are the bytes.
        digest = hashlib.sha256(bundle.content).hexdigest()
        return NodeTask(message, context, digest, run.run_id, client, self._path, Heartbeat(client))
