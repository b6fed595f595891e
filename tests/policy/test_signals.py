"""Global Privacy Control: two opt-outs for every purpose, and nothing from any other value."""

from datetime import UTC, datetime, timedelta

import pytest

from fedseg.policy.consent import ConsentEvent
from fedseg.policy.signals import global_privacy_control

SEEN = datetime(2026, 6, 1, tzinfo=UTC)
RECORDED = SEEN + timedelta(hours=1)


@pytest.mark.parametrize("header", ["1", " 1 "])
def test_the_signal_is_an_opt_out_of_sale_and_of_sharing_for_every_purpose(header: str) -> None:
    events = global_privacy_control(header, subject=bytes(16), seen_at=SEEN, recorded_at=RECORDED)
    assert events == tuple(
        ConsentEvent(bytes(16), "*", kind, SEEN, RECORDED) for kind in ("opt_out_sale", "opt_out_share")
    )


@pytest.mark.parametrize("header", ["", "0", "true", "11", "1, 1"])
def test_any_other_value_says_nothing(header: str) -> None:
    assert global_privacy_control(header, subject=bytes(16), seen_at=SEEN, recorded_at=RECORDED) == ()
