"""Fifty rounds, in each of which something is killed, paused, lost or said twice: every plan ends, and nobody helps it."""

import random

import pytest

from tests.system.deployment import Federation
from tests.system.unrest import KINDS, NO_ROUND, Unrest

pytestmark = pytest.mark.soak

SEED = 20_28
ROUNDS = 50
PLANS_MAX = 24
"""Of three rounds each; one that ends with a refusal may have fewer."""


def test_every_plan_ends_and_every_ledger_says_so(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    coins = random.Random(SEED)
    unrest, kinds = Unrest(federation, coins), list(KINDS)
    decks = range(3 * PLANS_MAX // len(kinds) + 1)
    deck = [kind for _ in decks for kind in coins.sample(kinds, len(kinds))][: 3 * PLANS_MAX]
    outcomes, rounds = list[str](), 0
    for first in range(0, len(deck), 3):
        if first % 12 == 0:
            unrest.turn()
        ended = unrest.run(deck[first : first + 3])
        unrest.check(ended)
        outcomes.append(ended.outcome)
        rounds += sum(not done.endswith(NO_ROUND) for done in ended.done)
        with capsys.disabled():
            print(f"\nplan {len(outcomes)}: {ended.outcome}; {'; '.join(ended.done)}", flush=True)  # noqa: T201 (the transcript)
        if rounds >= ROUNDS:
            break
    assert rounds >= ROUNDS
    assert outcomes.count("published") > len(outcomes) // 2
