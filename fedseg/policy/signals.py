"""Signals of browsers as consent events. Pure."""

from datetime import datetime

from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent


def global_privacy_control(
    header: str, *, subject: bytes, seen_at: datetime, recorded_at: datetime
) -> tuple[ConsentEvent, ...]:
    """What the `Sec-GPC` header of a customer's request says: an opt-out of sale and one of sharing, or nothing.

    It is no withdrawal of consent and no objection: those are other rights. Nothing but `1` is a signal, and no signal
    lifts nothing.

    Args:
        header: Value of the header; empty if there was none.
        subject: The customer's 16-byte pseudonymous key.
        seen_at: When the request came; UTC.
        recorded_at: When the unit came to know; UTC.

    Reference: Global Privacy Control, W3C Working Draft, section 3; 11 CCR 7025.
    """
    if header.strip() != "1":
        return ()
    kinds = ("opt_out_sale", "opt_out_share")
    return tuple(ConsentEvent(subject, EVERY_PURPOSE, kind, seen_at, recorded_at) for kind in kinds)
