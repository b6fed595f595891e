"""Asks every node for an array, round after round, and prints when each round began and ended."""

import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; an answer that is missing or wrong ends the app."""
    for number in range(int(context.run_config["num-rounds"])):
        started = time.monotonic()
        nodes = list(grid.get_node_ids())
        replies = grid.send_and_receive([_request(node, number) for node in nodes], timeout=300)
        arrays = [reply.content.array_records["arrays"]["centers"].numpy() for reply in replies]
        if len(arrays) != len(nodes) or not all((array == 2.0 * number).all() for array in arrays):
            raise RuntimeError(f"{len(arrays)} of {len(nodes)} nodes answered, or one wrongly")
        print(f"round from {started:.3f} to {time.monotonic():.3f}", flush=True)


def _request(node: int, number: int) -> Message:
    arrays = ArrayRecord({"centers": Array(np.full((8, 8), float(number)))})
    return Message(RecordDict({"arrays": arrays}), node, MessageType.TRAIN, group_id=str(number))
