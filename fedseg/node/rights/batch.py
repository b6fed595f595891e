"""One entry a day about customers' rights requests, whether there were none, one or thousands.

An entry for each request would tell everybody who sees the ledger when somebody left. So all of a day's certificates go
into one tree (`rights_tree`), and its root is what is logged, once for every day that is over.
"""

from datetime import datetime, timedelta

from fedseg.node.home import NodeHome
from fedseg.node.rights.tree import CAPACITY
from fedseg.privacy.account import PrivacyAccount, day_of, next_day


def log_days(home: NodeHome, now: datetime) -> list[str]:
    """Log the batch of every day that is over and has none yet; the days.

    A unit's first batch is of the day before it is first asked for one.
    """
    last_over = day_of(now - timedelta(days=1))
    logged: list[str] = []
    with home.ledger() as ledger, home.rights() as rights:
        account = PrivacyAccount(ledger)
        latest = account.state().rights_period
        period = last_over if latest is None else next_day(latest)
        while period <= last_over:
            account.add_rights_batch(period=period, capacity=CAPACITY, root=rights.batch_root(period, CAPACITY))
            logged.append(period)
            period = next_day(period)
    return logged
