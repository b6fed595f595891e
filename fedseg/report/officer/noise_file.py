"""Reading what `fedseg audit noise --format json` has printed, and deciding anew whether it found a violation."""

import hashlib

from pydantic import BaseModel, ConfigDict, ValidationError

from fedseg.errors import DataError
from fedseg.report.officer.model import NoiseAudit, NoiseGame

FILE = "noise-audit.json"
"""Its name beside the report."""
PASSED = "no violation found"
FAILED = "a violation was found"
NOT_RUN = "not run"
LIMIT_BYTES = 1024 * 1024
_GUESSES_MAX = 10**12


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    software: str
    violated: bool
    false_alarm: float
    games: list[NoiseGame]


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    data: _Data


def parse_noise_audit(document: bytes) -> NoiseAudit:
    """The audit that a file records.

    Raises:
        DataError: If it is not what the command prints, or its verdict is not that of its own numbers.
    """
    try:
        data = _File.model_validate_json(document).data
    except ValidationError as error:
        raise _refused("it is not what the command prints") from error
    if not data.games or any(not 0 < one.guesses <= _GUESSES_MAX for one in data.games):
        raise _refused("no game was played")
    violated = any(one.right_at_least > one.allowed for one in data.games)
    if violated != data.violated:
        raise _refused("its verdict is not that of its own numbers")
    return NoiseAudit(
        hashlib.sha256(document).hexdigest(), data.software, violated, data.false_alarm, tuple(data.games)
    )


def _refused(why: str) -> DataError:
    return DataError("the empirical audit cannot be shown", why=why, fix=f"fedseg audit noise --format json > {FILE}")
