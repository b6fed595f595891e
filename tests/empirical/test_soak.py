"""How often the audit notices each planted fault, and how often it raises an alarm about what ships: the whole count.

Every run has its number as seed of its coins, and noise of the system's. A planted fault ends with its forked child.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fedseg.empirical.audit import audit_noise
from fedseg.empirical.parts import Size
from tests.empirical.planted import FAULTS, ON_TRANSCRIPTS, Fault, alarms

pytestmark = pytest.mark.soak

RUNS, LEAST = 20, 19
HONEST_RUNS = 200

FEW_RUNS = Size(noise=8000, pipeline=1600, transcript=120)
"""For what ships: games on whole runs take longest, and with fewer guesses they could not raise an alarm at all."""

WHOLE_RUNS = Size(noise=0, pipeline=0, transcript=300)


@dataclass(frozen=True, slots=True)
class Planted:
    """One audit with a fault."""

    fault: Fault
    size: Size

    def __call__(self, seed: int) -> set[str]:
        return alarms(self.fault, seed, self.size)


def honest(seed: int) -> set[str]:
    """One audit of what ships."""
    return {one.game.name for one in audit_noise(FEW_RUNS, seed=seed).violated}


def count(audit: Callable[[int], set[str]], runs: int) -> Counter[str]:
    """How often each game raised an alarm, and any at all."""
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as children:
        found = children.map(audit, range(runs), chunksize=1)
    return Counter(game for one in found for game in (*one, *(["any"] if one else [])))


def told(what: str, runs: int, alarmed: Counter[str]) -> None:
    """Put the count into the transcript."""
    games = ", ".join(f"{game} {times}" for game, times in sorted(alarmed.items()) if game != "any")
    print(f"{what}: alarm in {alarmed['any']} of {runs} audits ({games or 'no game'})")  # noqa: T201 (the transcript is this)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_noticed_by_each_game_that_it_is_in(name: str) -> None:
    alarmed = count(Planted(FAULTS[name], FEW_RUNS), RUNS)
    told(name, RUNS, alarmed)
    assert all(alarmed[game] >= LEAST for game in FAULTS[name].noticed_by)


@pytest.mark.parametrize("name", ON_TRANSCRIPTS)
def test_the_large_ones_are_noticed_in_whole_runs(name: str) -> None:
    alarmed = count(Planted(ON_TRANSCRIPTS[name], WHOLE_RUNS), RUNS)
    told(f"{name}, in whole runs", RUNS, alarmed)
    assert all(alarmed[game] >= LEAST for game in ON_TRANSCRIPTS[name].noticed_by)


def test_what_ships_raises_no_alarm() -> None:
    alarmed = count(honest, HONEST_RUNS)
    told("what ships", HONEST_RUNS, alarmed)
    assert alarmed["any"] == 0
