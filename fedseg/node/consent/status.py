"""Where the consents of a unit stand, as counts for the unit's own eyes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from fedseg.errors import DataError
from fedseg.node.consent.register import ImportNote
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.policy.consent import Jurisdiction, PurposeState, Status, Veto, fold, to_microseconds
from fedseg.policy.lookup import ABSENT, SubjectIndex
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT, SUBJECT_TYPE


@dataclass(frozen=True, slots=True)
class PurposeCounts:
    """LOCAL: how many customers of the register stand where, for one purpose."""

    statuses: Mapping[Status, int]
    explicit: Mapping[Status, int]
    """The same of explicit consent to the use of special categories of data."""
    jurisdictions: Mapping[Jurisdiction, int]
    vetoes: Mapping[Veto, int]
    """Customers with each veto; one customer may have several."""
    expiring: int
    """Consents that hold now and end within the days asked for."""


@dataclass(frozen=True, slots=True)
class ConsentStatus:
    """LOCAL: exact counts, which never leave the unit."""

    customers: int
    """Customers of whom the register holds anything."""
    in_source: int | None
    """How many of them are in the data source; None if it cannot be read."""
    purposes: Mapping[Purpose, PurposeCounts]
    imports: list[ImportNote]
    """The latest first."""


def consent_status(home: NodeHome, *, now: datetime, days: int) -> ConsentStatus:
    """Count where everyone's consent stands at `now`, and how many consents end within so many days.

    Raises:
        DataError, StorageError: If register or data source cannot be read.
    """
    purposes: dict[Purpose, PurposeCounts] = {}
    known = pa.array([], SUBJECT_TYPE)
    with home.register() as register:
        for purpose in Purpose:
            state = fold(register.events(purpose), now)
            purposes[purpose] = _counts(state.by_purpose[purpose], now, days)
            known = pa.concat_arrays([known, state.subjects]).unique()
        imports = register.imports()
    return ConsentStatus(len(known), _in_source(home, known), purposes, imports)


def _counts(state: PurposeState, now: datetime, days: int) -> PurposeCounts:
    flags = state.vetoes.astype(np.int64)
    holds = (state.status == Status.GIVEN) | (state.status == Status.RENEWED)
    soon = state.valid_until <= to_microseconds(now + timedelta(days=days))
    return PurposeCounts(
        statuses={status: int((state.status == status).sum()) for status in Status},
        explicit={status: int((state.explicit == status).sum()) for status in Status},
        jurisdictions={place: int((state.jurisdiction == place).sum()) for place in Jurisdiction},
        vetoes={veto: int(((flags & int(veto)) != 0).sum()) for veto in Veto},
        expiring=int((holds & soon).sum()),
    )


def _in_source(home: NodeHome, known: pa.Array) -> int | None:
    index, seen = SubjectIndex.over(known), np.zeros(len(known), dtype=np.bool_)
    try:
        for batch in open_source(home, ()).batches():
            places = index.find(batch.column(SUBJECT))
            seen[places[places != ABSENT]] = True
    except DataError:  # the counts of the register are true without it
        return None
    return int(seen.sum())
