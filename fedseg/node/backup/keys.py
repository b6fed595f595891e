"""Keys of backups: one a month, destroyed when the backups of that month may not be read any more.

Nobody can take one person out of a backup. So what ends a backup is the end of its key, on a day that is fixed when the
key is made.
"""

import calendar
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from fedseg.errors import DataError, PolicyError, StorageError
from fedseg.ledger.canonical import Json, canonical
from fedseg.node.backup.sealed_file import KEY_BYTES
from fedseg.node.home import LOCAL, NodeHome
from fedseg.policy.document import load_policy
from fedseg.private_file import destroy

KEYS: Final = "backup-keys"
"""Directory in LOCAL with a key for each month that has backups."""
_ENDED: Final = ".ended"


@dataclass(frozen=True, slots=True)
class MonthKey:
    """What backups of one month are encrypted with."""

    month: str
    """YYYY-MM, UTC."""
    key: bytes
    unreadable_after: date
    """The last day on which the key may be there: fixed when it is made, whatever the policy says later."""


def shred_keys(home: NodeHome, today: date) -> list[str]:
    """Destroy the keys of months whose backups may not be read any more; which months.

    Raises:
        StorageError: If a key cannot be destroyed.
    """
    over = [one for one in month_keys(home) if one.unreadable_after < today]
    for one in over:
        path = _key_file(home, one.month)
        try:
            # Under another name first: a kill leaves no key that half is there.
            path.rename(path.with_suffix(_ENDED))
        except OSError as error:
            raise _not_destroyed(path, error) from error
    for path in (home.path / LOCAL / KEYS).glob(f"*{_ENDED}"):
        _overwrite(path)
    return [one.month for one in over]


def _overwrite(path: Path) -> None:
    try:
        destroy(path)
    except OSError as error:
        raise _not_destroyed(path, error) from error


def _not_destroyed(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} was not destroyed",
        why=error.strerror or "unknown cause",
        fix="let the unit's user write it, then: fedseg subject sweep",
    )


def month_keys(home: NodeHome) -> list[MonthKey]:
    """The keys that are still there, the oldest first.

    Raises:
        DataError: If a file among them is none.
    """
    return [_read_key(path) for path in sorted((home.path / LOCAL / KEYS).glob("*.key"))]


def _key_file(home: NodeHome, month: str) -> Path:
    return home.path / LOCAL / KEYS / f"{month}.key"


def key_of_month(home: NodeHome, now: datetime) -> MonthKey:
    """The month's key; a new one for the first backup of the month.

    Raises:
        PolicyError: If the policy does not say how long backups are kept.
        DataError, StorageError: If it cannot be read or written.
    """
    today = now.astimezone(UTC).date()
    month = today.strftime("%Y-%m")
    if _key_file(home, month).exists():
        return _read_key(_key_file(home, month))
    kept = load_policy(home.policy_document()).retention.backup_days
    if kept is None:
        raise PolicyError(
            "the policy does not say how long backups are kept",
            why="a backup that nothing ends would keep people whom the unit has erased",
            fix="have its owners add backup_days under retention",
        )
    last = today.replace(day=calendar.monthrange(today.year, today.month)[1])
    made = MonthKey(month, secrets.token_bytes(KEY_BYTES), last + timedelta(days=kept))
    facts: dict[str, Json] = {
        "key": made.key.hex(),
        "month": month,
        "unreadable_after": made.unreadable_after.isoformat(),
        "version": 1,
    }
    home.keep_local(f"{KEYS}/{month}.key", canonical(facts))
    return made


def _read_key(path: Path) -> MonthKey:
    try:
        facts = json.loads(path.read_bytes())
        found = MonthKey(facts["month"], bytes.fromhex(facts["key"]), date.fromisoformat(facts["unreadable_after"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "a key of backups cannot be read",
            why=f"{path} is damaged",
            fix="move it away; its month's backups are lost",
        ) from error
    return found
