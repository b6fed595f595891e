"""The end of backups that may hold somebody who was erased: a signed statement beside the certificate of the erasure.

A certificate says until when backups can be read. Once the unit has no key any more of a month up to that of the
erasure, it says that too; the day's batch in the ledger binds it like the certificate itself.
"""

import secrets
from datetime import UTC, datetime

import fedseg
from fedseg.certificate import SALT_BYTES, ClosingFacts, commitment, promises_an_end_of_backups, sign_closing
from fedseg.node.backup.keys import month_keys
from fedseg.node.home import NodeHome
from fedseg.node.rights.register import StoredCertificate
from fedseg.privacy.account import day_of


def close_backups(home: NodeHome, now: datetime) -> int:
    """Make the closing statement of every erasure whose backups nobody can read any more.

    Killed, or asked again, it makes those that are missing.

    Returns:
        LOCAL: how many were made.
    """
    months = [one.month for one in month_keys(home)]
    with home.rights() as rights:
        waiting = [one for one in rights.not_closed() if not any(month <= f"{one.completed:%Y-%m}" for month in months)]
        made = [_statement(home, one, now) for one in waiting if promises_an_end_of_backups(one.envelope)]
        rights.close_backups(made)
    return len(made)


def _statement(home: NodeHome, certificate: StoredCertificate, now: datetime) -> StoredCertificate:
    facts = ClosingFacts(
        request_id=certificate.request,
        unit=home.settings.unit,
        closed=day_of(now),
        software=f"fedseg {fedseg.__version__}",
    )
    envelope, salt = sign_closing(facts, certificate.envelope, home.key), secrets.token_bytes(SALT_BYTES)
    today = now.astimezone(UTC).date()
    return StoredCertificate(certificate.request, today, envelope, salt, commitment(envelope, salt))
