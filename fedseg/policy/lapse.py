"""Whose consent has ended, and since when nothing was heard of them: their rows need not be kept. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedseg.policy.consent import EVENT_TIME_TYPE, Status, Veto, fold, superseded
from fedseg.policy.document import Policy
from fedseg.policy.purpose_rule import ByNotice
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT

ENDED: Final = (Status.EXPIRED, Status.REFUSED, Status.WITHDRAWN, Status.REVOKED)
"""States of consent that are a no, whatever the policy says."""

_KEEP: Final = Veto.RESTRICTION | Veto.UNREADABLE
"""Who asked for restriction asked that their data be kept (Article 18 GDPR); what cannot be read decides nothing."""


def lapsed(events: Callable[[Purpose], pa.Table], policy: Policy, since: datetime) -> frozenset[bytes]:
    """Customers who may not be counted for any purpose since `since`, because their consent ended, and not by a policy.

    For some purpose their consent had ended by then, and for every other it had too or was never asked for; a purpose
    for which being told is enough needs a no of its own. Nothing has been said about them since. No restriction stands
    against erasing their rows.

    That a policy asks for a younger consent or a later notice ends no consent: raising such a limit erases nobody.

    Args:
        events: All events about a purpose and about every purpose, in `EVENT_SCHEMA`.
        policy: The one in force.
        since: Aware datetime.
    """
    over: set[bytes] = set()
    stay: set[bytes] = set()
    told = [
        purpose for purpose, rule in policy.purposes.items() if any(isinstance(one, ByNotice) for one in rule.ways())
    ]
    said_no: dict[Purpose, set[bytes]] = {}
    for purpose in Purpose:
        found = events(purpose)
        living = found.filter(pa.array(~superseded(found, since)))
        state = fold(living, since)
        standing = state.by_purpose[purpose]
        has_ended = np.isin(standing.status, ENDED)
        speaks = ~has_ended & (standing.status != Status.NO_RECORD)
        said_no[purpose] = _those(state.subjects, has_ended)
        over |= said_no[purpose]
        stay |= _those(state.subjects, speaks | ((standing.vetoes & np.uint16(_KEEP)) != 0))
        stay |= _heard_of(living, since)
    return frozenset((over - stay).intersection(*(said_no[purpose] for purpose in told)))


def _those(subjects: pa.Array, mask: NDArray[np.bool_]) -> set[bytes]:
    return set(subjects.filter(pa.array(mask)).to_pylist())


def _heard_of(events: pa.Table, since: datetime) -> set[bytes]:
    """Customers with an event that counts only later."""
    moment = pa.scalar(since, EVENT_TIME_TYPE)
    later = pc.or_(pc.greater(events.column("event_time"), moment), pc.greater(events.column("recorded_at"), moment))
    return set(events.filter(later).column(SUBJECT).to_pylist())
