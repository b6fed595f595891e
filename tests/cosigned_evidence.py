"""Ledgers that witnesses have cosigned: of units that are each other's, and of their server."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from fedseg.audit.archive import Member
from fedseg.federation.server_app import run_plan
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.witness import KEY_FILE
from fedseg.node.witnessing import COSIGNED_FILE
from fedseg.report.officer.evidence import gather
from tests.small_federation import SmallFederation
from tests.witnessed_federation import witnessed

WHEN = datetime(2026, 11, 23, 9, tzinfo=UTC)


def cosigned_run(path: Path) -> SmallFederation:
    """A run that has ended, of three units that are each other's witnesses."""
    federation = witnessed(path, {"north": 60, "south": 50, "west": 40})
    grid = federation.grid()
    run_plan(grid, federation.server, federation.document, roster=federation.roster, clock=grid.clock, sleep=grid.sleep)
    return federation


def cosigned_evidence(path: Path) -> tuple[Member, ...]:
    """What such a run leaves, with everything that was cosigned."""
    ended = cosigned_run(path)
    return gather([ended.server.path, *(home.path for home in ended.homes)])


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
