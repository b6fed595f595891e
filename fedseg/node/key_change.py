"""Replacing the key of a unit: the one with which it signs its ledger and its releases, and by which plans name it."""

from dataclasses import dataclass
from datetime import datetime

from fedseg.errors import StorageError
from fedseg.ledger.key_files import save_next_key, settle_keys
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.ledger.store import Ledger
from fedseg.node.home import NodeHome
from fedseg.privacy.account import PrivacyAccount, day_of


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A unit's key before and after."""

    old: PublicKey
    new: PublicKey
    seq: int
    """The entry that says so."""


def require_replaceable(home: NodeHome, *, now: datetime) -> PublicKey:
    """The key in force, if it can be replaced now.

    Raises:
        NotApprovedError: If a plan that names it is approved and not finished.
        ClockError: If the clock is behind the ledger.
    """
    with home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
        state.require_day(day_of(now))
        state.require_no_plan_open(day_of(now))
        return ledger.public_key


def replace_key(home: NodeHome, *, now: datetime) -> KeyChange:
    """Make a new key, log that it replaces the one in force, and keep it in its place; the old one's file is gone then.

    Whatever interrupts this, either of the two is in force, and the home finds it. `home` itself keeps the key that it
    was opened with: open it anew.

    Raises:
        NotApprovedError, ClockError: As `require_replaceable`.
        StorageError: If the disk refuses. The key in force is in the home.
    """
    with home.ledger() as ledger:
        _settle(home, ledger)
        old = ledger.public_key
        seq = PrivacyAccount(ledger).replace_key(lambda: _new_key(home), day=day_of(now))
        _settle(home, ledger)
        return KeyChange(old, ledger.public_key, seq)


def _new_key(home: NodeHome) -> SigningKey:
    new = SigningKey.generate()
    try:
        save_next_key(home.key_file, new, home.hand_over)
    except OSError as error:
        raise _refused(error) from error
    return new


def _settle(home: NodeHome, ledger: Ledger) -> None:
    # A transaction keeps others from changing the key meanwhile.
    with ledger.transaction():
        try:
            settle_keys(home.key_file, ledger.public_key)
        except OSError as error:
            raise _refused(error) from error


def _refused(error: OSError) -> StorageError:
    return StorageError(
        "the unit's key files cannot be changed now",
        why=error.strerror or "the disk refused",
        fix="check space and permissions of LOCAL/keys, then run the same command again",
    )
