"""A unit that is put back, restored as a whole or run twice spends at most one release twice for each time, exactly counted."""

import contextlib
import io
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fedseg.audit.histories import fork, signed_checkpoints
from fedseg.audit.memory import LogId
from fedseg.cli.main import run_command
from fedseg.errors import RolledBackError
from fedseg.ledger.reading import read_ledger
from fedseg.node.home import NodeHome
from fedseg.node.integrity import require_integrity
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


def test_without_witnesses_one_rollback_spends_all_of_it_again(tmp_path: Path) -> None:
    trial = Trial(make_federation(tmp_path / "federation", SIZES).approve_all(), random.Random(1))
    shutil.copytree(trial.place, tmp_path / "copy")
    trial.live(1)
    trial.put_back(tmp_path / "copy", whole=True)
    trial.live(1)
    assert (trial.rollbacks, trial.spent_twice) == (1, trial.federation.plan.rounds)
    assert not within_the_residue(trial)


def test_of_two_copies_the_second_to_be_witnessed_is_found_and_both_together_are_a_proof(
    template: SmallFederation, tmp_path: Path
) -> None:
    trial = Trial(template.copied_to(tmp_path / "federation"), random.Random(1))
    trial.be_witnessed()
    shutil.copytree(trial.place, tmp_path / "clone")
    trial.federation.processes[tmp_path / "clone"] = replace(trial.federation.processes[trial.place])
    second = NodeHome.open(tmp_path / "clone")
    trial.release(second)
    trial.release(trial.home)
    trial.be_witnessed()
    trial.place.rename(tmp_path / "first")
    (tmp_path / "clone").rename(trial.place)
    trial.be_witnessed()
    with pytest.raises(RolledBackError):
        require_integrity(trial.home)
    assert trial.spent_twice <= 1
    logs = [read_ledger(place / "ledger.db") for place in (tmp_path / "first", trial.place)]
    found = fork(LogId(logs[0].origin, logs[0].public_key.to_text()), *map(signed_checkpoints, logs))
    assert found is not None
    (tmp_path / "proof.json").write_bytes(found.to_json())
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run_command(["audit", "verify", str(tmp_path / "proof.json")])
    assert "signed two histories of fedseg/unit/north" in said.getvalue()
    assert code == 9


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
