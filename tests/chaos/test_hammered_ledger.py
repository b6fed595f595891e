"""Two processes release into one ledger as fast as they can: the total is exact, and never over the cap."""

from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fedseg.errors import BudgetError
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import check_log
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.store import Ledger
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, SystemNoise
from fedseg.privacy.release import ReleaseTicket, release
from fedseg.privacy.sensitive import sum_of_rows
from fedseg.privacy.state import Caps, replay
from tests.chaos.conftest import Child

RELEASES = 1000
"""By each of two processes; the cap, lowered after approval, holds three quarters of all."""

DAY = "2026-01-01"
MECHANISM = DiscreteGaussian(2**16)
SQUARED = 2**20
RHO = MECHANISM.charge(SQUARED).rho
PLANS = ("1" * 64, "2" * 64)


def hammer(path: Path, key: SigningKey, plan: str) -> bytes:
    """Release every step of a plan; how many the account let through."""
    done = 0
    with Ledger.open(path, key) as ledger:
        account = PrivacyAccount(ledger)
        for step in range(RELEASES):
            statistic = sum_of_rows(
                [(np.zeros(1, np.intp), np.ones((1, 3), np.int64))], cells=1, width=3, l2_sensitivity_squared=SQUARED
            )
            ticket = ReleaseTicket(
                plan_sha256=plan,
                unit="hammered",
                unit_index=0,
                step=step,
                request_sha256=f"{step:064x}",
                cells=1,
                width=3,
                lattice={},
                policy_sha256="0" * 64,
                gate_commitment="3" * 64,
                software="fedseg test",
                day=DAY,
            )
            try:
                release(statistic, Noise.draw(MECHANISM, 3, SystemNoise()), account, ticket, key)
            except BudgetError:
                continue
            done += 1
    return str(done).encode()


@pytest.mark.chaos
def test_two_processes_of_a_thousand_releases_each_end_with_an_exact_total_at_the_cap(tmp_path: Path) -> None:
    path, key = tmp_path / "ledger.db", SigningKey.generate()
    cap = RHO * (2 * RELEASES * 3 // 4)
    with Ledger.create(path, origin="fedseg/unit/hammered", key=key, body={"role": "unit", "unit": "hammered"}) as made:
        account = PrivacyAccount(made)
        account.adopt_policy(Caps("4" * 64, 2 * RELEASES * RHO, Fraction(1, 10**6), {}), policy_id="a", document=b"a")
        for plan in PLANS:
            account.approve(PlanTerms(plan, b"", "p", (RHO,) * RELEASES, "5" * 64), day=DAY)
        account.adopt_policy(Caps("6" * 64, cap, Fraction(1, 10**6), {}), policy_id="b", document=b"b")

    processes = [Child.start(partial(hammer, path, key, plan)) for plan in PLANS]
    let_through = [int(one.wait().output) for one in processes]

    raw = read_ledger(path)
    check_log(raw, key.public)
    state = replay(raw.entries)
    spent = [Fraction(str(entry.body["rho_spent_after"])) for entry in raw.entries if entry.kind == "release"]
    assert sum(let_through) == len(spent) == RELEASES * 3 // 2
    assert spent == [RHO * count for count in range(1, len(spent) + 1)]
    assert state.rho_spent == spent[-1] == cap
    assert all(let_through), "one of them never came to work, so nothing was shown"
