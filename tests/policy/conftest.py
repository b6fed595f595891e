"""Events and histories for the policy tests."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st

from fedseg.policy.consent import (
    EVENT_KINDS,
    EVERY_PURPOSE,
    FOR_EVERY_PURPOSE,
    FOR_ONE_PURPOSE,
    GRANTS,
    ConsentEvent,
)
from fedseg.policy.purposes import Purpose

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class EventMaker:
    """Makes events with times in days before `now`, and whole histories of them."""

    now = NOW

    def __call__(
        self,
        kind: str,
        *,
        who: int = 1,
        days_ago: float = 10,
        recorded_days_ago: float | None = None,
        valid_days: float = 100,
        notice: int = 3,
        purpose: str | None = None,
    ) -> ConsentEvent:
        """One event, about statistics unless it can only be about the customer; a consent ends `valid_days` after now."""
        usual = EVERY_PURPOSE if kind in FOR_EVERY_PURPOSE else Purpose.SEGMENT_STATISTICS
        return ConsentEvent(
            subject=self.subject(who),
            purpose=usual if purpose is None else purpose,
            kind=kind,
            event_time=NOW - timedelta(days=days_ago),
            recorded_at=NOW - timedelta(days=days_ago if recorded_days_ago is None else recorded_days_ago),
            valid_until=NOW + timedelta(days=valid_days) if kind in GRANTS else None,
            notice_version=notice,
        )

    def subject(self, who: int) -> bytes:
        """The key of a customer; the first eight bytes are the same for all."""
        return b"customer" + who.to_bytes(8, "big")

    def any_event(self, people: int = 3) -> st.SearchStrategy[ConsentEvent]:
        """Events of a few customers at a few moments, so that ties, repeats and late arrivals are common."""
        return st.builds(
            self._scoped,
            kind=st.sampled_from(sorted(EVENT_KINDS)),
            every_purpose=st.booleans(),
            purpose=st.sampled_from(
                [Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION]
            ),
            who=st.integers(1, people),
            days_ago=st.sampled_from([-1, 0, 1, 2, 3]),
            recorded_days_ago=st.sampled_from([-1, 0, 1, 2, 3]),
            valid_days=st.sampled_from([-1, 0, 1, 2]),
            notice=st.integers(0, 3),
        )

    def _scoped(self, *, kind: str, every_purpose: bool, purpose: str, **rest: float) -> ConsentEvent:
        everywhere = kind in FOR_EVERY_PURPOSE or (every_purpose and kind not in FOR_ONE_PURPOSE)
        scope = EVERY_PURPOSE if everywhere else purpose
        return self(kind, purpose=scope, **rest)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def event() -> EventMaker:
    """Makes events."""
    return EventMaker()
