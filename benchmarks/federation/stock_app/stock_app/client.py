"""Answers an array with an array."""

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The array, doubled."""
    del context
    array = message.content.array_records["arrays"]["centers"].numpy()
    return Message(RecordDict({"arrays": ArrayRecord({"centers": Array(2 * array)})}), reply_to=message)
