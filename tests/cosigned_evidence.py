"""A server's ledger that units' witnesses have cosigned, as its home would hold it."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.witness import KEY_FILE
from fedseg.node.witnessing import COSIGNED_FILE
from tests.small_federation import SmallFederation

WHEN = datetime(2026, 11, 23, 9, tzinfo=UTC)


def cosigned_server(ended: SmallFederation, folder: Path, *units: str, root: bytes | None = None) -> Path:
    """A copy of the server's home; its newest checkpoint, or one of this root, is signed by these units' witnesses."""
    home = shutil.copytree(ended.server.path, folder / "server")
    raw = read_ledger(home / "ledger.db")
    size = len(raw.entries)
    note = sign_checkpoint(Checkpoint(raw.origin, size, root or raw.history().root(size)), ended.server.key)
    for unit in units:
        key = SigningKey.load(ended.home(unit).path / "LOCAL" / "witness" / KEY_FILE)
        note = cosign(note, f"fedseg/witness/{unit}", key, WHEN)
    (home / COSIGNED_FILE).write_text(note, "utf-8")
    return home
