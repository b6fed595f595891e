"""What an officer's report can be given beside ledgers, for its tests."""

import json
from typing import Any

GAME = {
    "name": "noise",
    "question": "was it there",
    "guesses": 800,
    "allowed": 0.76,
    "right_at_least": 0.7,
    "rho": 1.0,
    "rho_at_least": 0.5,
}


def audit_file(**changes: Any) -> bytes:
    """What `fedseg audit noise --format json` prints, with these changes."""
    data = {"software": "fedseg 0.1.0", "violated": False, "false_alarm": 1e-6, "games": [GAME]} | changes
    return json.dumps({"schema_version": 1, "status": "ok", "exit_code": 0, "data": data}).encode()
