"""How long the budget lasts, in the words of the officer's report and of `fedseg budget preview`: computed by them."""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from fedseg.console.account import AccountFacts, part_of
from fedseg.node.approvals import forecast_in_turn
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.report.officer.budgets import forecast
from fedseg.report.officer.model import Forecast


@dataclass(frozen=True, slots=True)
class Outlook:
    """When the budget is used up: as things stand, and once the plans that wait are approved."""

    now: Forecast
    waiting: int
    """Plans in the inbox."""
    fitting: int
    """How many of them can be approved, one after another as they are listed."""
    left_after: Fraction
    """Part of the cap that could be approved beside these."""
    after: Forecast


def outlook_of(home: NodeHome, account: AccountFacts, today: date) -> Outlook:
    """The pace of the last days, carried on. Reads no customer.

    Raises:
        PolicyError, StorageError, VerificationError: If policy, inbox or ledger cannot be read.
    """
    waiting, _ = Inbox(home).waiting()
    fitting = [one for one in forecast_in_turn(home, [one.plan for one in waiting]) if one.refusal is None]
    left = fitting[-1].rho_left_after if fitting else account.rho_left
    cap = fitting[-1].rho_cap if fitting else account.rho_cap
    # A clock behind the ledger is refused where it counts; here it must not turn the pace around.
    as_of = max([today.isoformat(), *(one.day for one in account.days[-1:])])
    return Outlook(
        now=forecast(account.charges, account.rho_left, as_of),
        waiting=len(waiting),
        fitting=len(fitting),
        left_after=part_of(left, cap),
        after=forecast(account.charges, left, as_of),
    )
