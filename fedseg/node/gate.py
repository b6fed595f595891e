"""The gate at a unit: consent as of now, less everybody who was erased, decided under the policy in force.

Customers come in one order from the register and from the list of the erased, and are decided on some at a time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Final

import pyarrow as pa

from fedseg.node.consent.register import ConsentRegister
from fedseg.node.home import NodeHome
from fedseg.node.keys_on_disk import WordsOnDisk
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, fold, histories
from fedseg.policy.document import Policy
from fedseg.policy.gate import Decisions, decide_each
from fedseg.table import SUBJECT

EVENTS_AT_ONCE: Final = 2**15
"""Events folded at a time, or all of a customer's, if these are more: some ten megabytes. No result depends on it."""


def decide_now(home: NodeHome, register: ConsentRegister, policy: Policy, purpose: str, now: datetime) -> Decisions:
    """Decide on everybody in the register, and on everybody who was erased: these may not be counted.

    Raises:
        PolicyError: If the policy says nothing about the purpose.
        DataError, StorageError: If a register cannot be read, or the disk is full, whoever is in it.
    """
    with home.rights() as rights:
        erased = rights.suppressed()
    with closing(register.events_in_order(purpose)) as events:
        pieces = _with_erased(histories(events, EVENTS_AT_ONCE), erased, now)
        states = (fold(piece, now) for piece in pieces)
        return decide_each(states, policy, purpose, now, partial(WordsOnDisk, home.path))


def _with_erased(pieces: Iterable[pa.Table], erased: pa.Array, now: datetime) -> Iterator[pa.Table]:
    """The pieces with an event for everybody who was erased, and further pieces of such after them.

    Args:
        pieces: Events of customers in byte order, all of a customer's in one piece.
        erased: In byte order, too.
        now: When.
    """
    taken = 0
    for piece in pieces:
        last = piece.column(SUBJECT)[-1].as_py()
        upto = bisect_right(range(len(erased)), last, lo=taken, key=lambda place: erased[place].as_py())
        yield pa.concat_tables([piece, _suppressed_now(erased[taken:upto], now)])
        taken = upto
    for start in range(taken, len(erased), EVENTS_AT_ONCE):
        yield _suppressed_now(erased[start : start + EVENTS_AT_ONCE], now)


def _suppressed_now(subjects: pa.Array, now: datetime) -> pa.Table:
    """An event of this very moment for each: nothing lifts that, whatever was imported or restored."""
    alike: dict[str, object] = {
        "purpose": EVERY_PURPOSE,
        "kind": "suppressed",
        "event_time": now,
        "recorded_at": now,
        "valid_until": None,
        "notice_version": 0,
    }
    columns = [pa.repeat(pa.scalar(alike[one.name], one.type), len(subjects)) for one in list(EVENT_SCHEMA)[1:]]
    return pa.table([subjects, *columns], schema=EVENT_SCHEMA)
