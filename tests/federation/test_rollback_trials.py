"""A unit that is put back, restored as a whole or run twice spends at most one release twice for each time, exactly counted."""

from collections import Counter
from pathlib import Path

import pytest

from tests.small_federation import SmallFederation, make_federation
from tests.witnessed_federation import Trial, play, witnessed

SIZES = {"north": 40, "south": 20, "west": 20}
KINDS = ("ledger put back", "whole unit put back", "two copies at once")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return witnessed(tmp_path_factory.mktemp("witnessed") / "federation", SIZES)


def within_the_residue(trial: Trial) -> bool:
    return trial.spent_twice <= trial.rollbacks


@pytest.mark.parametrize("seed", range(9))
def test_at_most_one_release_a_rollback_is_spent_twice(template: SmallFederation, tmp_path: Path, seed: int) -> None:
    assert within_the_residue(play(template, tmp_path, seed))


def test_without_witnesses_the_same_history_spends_more(tmp_path: Path) -> None:
    alone = make_federation(tmp_path / "alone", SIZES).approve_all()
    trials = [play(alone, tmp_path / str(seed), seed) for seed in (1, 4)]
    assert not all(map(within_the_residue, trials))


@pytest.mark.soak
def test_200_rollbacks_and_clones_spend_at_most_the_declared_residue(template: SmallFederation, tmp_path: Path) -> None:
    spent, refused, proofs, rollbacks = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for seed in range(200):
        trial, kind = play(template, tmp_path / str(seed), seed), KINDS[seed % 3]
        assert within_the_residue(trial), f"seed {seed}: {trial.spent_twice} of {trial.rollbacks}"
        spent[kind] += trial.spent_twice
        rollbacks[kind] += trial.rollbacks
        refused[kind] += trial.refused > 0
        proofs[kind] += bool(trial.proofs)
    for kind in KINDS:
        print(  # noqa: T201 (the transcript)
            f"{kind}: {rollbacks[kind]} times, {spent[kind]} releases spent twice, "
            f"at most 1 each time; copies found in {refused[kind]} trials, proofs of two histories in {proofs[kind]}"
        )
