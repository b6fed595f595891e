"""Fifty rounds, in each of which something is killed, paused, lost or said twice: every plan ends, and nobody helps it."""

import random

import pytest

from tests.system.deployment import Federation
from tests.system.unrest import KINDS, NO_ROUND, Unrest
from tests.system.witnesses import witnessing

pytestmark = pytest.mark.soak

SEED = 20_28
ROUNDS = 50
PLANS_MAX = 24
"""Of three rounds each; one that ends with a refusal may have fewer."""


WITNESSED_ROUNDS = 12


def test_every_plan_ends_and_every_ledger_says_so(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    play(Unrest(federation, random.Random(SEED)), ROUNDS, capsys)


def test_so_do_plans_that_are_witnessed(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    # Two of three are enough: the unit to which things happen may be the third.
    with witnessing(federation, quorum=2):
        play(Unrest(federation, random.Random(SEED + 1), witnessed=True), WITNESSED_ROUNDS, capsys)


def play(unrest: Unrest, wanted: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Run plans until so many rounds have had something happen in them."""
    coins, kinds = unrest.coins, list(KINDS)
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
        if rounds >= wanted:
            break
    assert rounds >= wanted
    assert outcomes.count("published") > len(outcomes) // 2
