"""Messages outside a run of Flower's own programs, and how large they get."""

from collections.abc import Mapping
from typing import Any, Final

from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedseg.federation import wire
from fedseg.plan import Plan
from fedseg.server.contribution import payload_bytes

WITNESS_BYTES_A_UNIT: Final = 8 * 1024
"""More than a consistency proof of 63 hashes, two checkpoints with cosignatures, and their names."""
_MAX_ID: Final = 2**64 - 1


def be_task(run_id: int) -> Run:
    """Let this process make messages of run `run_id`, as Flower's own programs do when they start; returns the run."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, SUPERLINK_NODE_ID
    return Run.create_empty(run_id)


def through_codec(message: Message) -> Message:
    """The message as it arrives at the other end of Flower's wire."""
    return message_from_proto(message_to_proto(message))


def _about_witnesses(plan: Plan) -> int:
    """No less than the bytes of a unit's longest reply about witnessing: a proof and an answer for each unit."""
    return WITNESS_BYTES_A_UNIT * (len(plan.units) + 1) if plan.witnessed else 0


def largest_body_bytes(plan: Plan) -> int:
    """Length of the largest HTTP body that a node sends for this plan, by Flower's own encoding.

    That is a release, or what a unit says about witnessing, beside it or alone. It counts the reply's bytes, Flower's
    objects around them, and the announcement of the reply with its largest ids.
    """
    be_task(_MAX_ID)
    release, said = 1 + max(payload_bytes(terms) for terms in plan.terms), _about_witnesses(plan)
    reply = Message(
        wire.pack(bytes(max(release, said)), bytes(said) if said else None),
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
