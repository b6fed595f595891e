"""Fifty rounds, in each of which something is killed, paused, lost or said twice: every plan ends, and nobody helps it."""

import random

import pytest

from tests.system.deployment import Federation
from tests.system.unrest import KINDS, Unrest

pytestmark = pytest.mark.soak

SEED = 20_28
PLANS = 17
"""Of three rounds each."""


def test_every_plan_ends_and_every_ledger_says_so(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    coins = random.Random(SEED)
    unrest, kinds = Unrest(federation, coins), list(KINDS)
    deck = [kind for _ in range(3 * PLANS // len(kinds) + 1) for kind in coins.sample(kinds, len(kinds))][: 3 * PLANS]
    outcomes: list[str] = []
    for first in range(0, len(deck), 3):
        if first % 12 == 0:
            unrest.turn()
        ended = unrest.run(deck[first : first + 3])
        unrest.check(ended)
        outcomes.append(ended.outcome)
        with capsys.disabled():
            print(f"\nplan {len(outcomes)}: {ended.outcome}; {'; '.join(ended.done)}", flush=True)  # noqa: T201 (the transcript)
    assert outcomes.count("published") > PLANS // 2
