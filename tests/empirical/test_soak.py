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
from fedseg.empirical.parts import Part, Size
from tests.empirical.planted import FAULTS, ON_TRANSCRIPTS, Fault, alarms

pytestmark = pytest.mark.soak

RUNS, LEAST = 20, 19
HONEST_RUNS = 200

UNIT = Size(noise=8000, pipeline=1149, transcript=0)
"""Three releases of each unit."""

WHOLE_RUNS = Size(noise=0, pipeline=0, transcript=300)
FEW_WHOLE_RUNS = Size(noise=0, pipeline=0, transcript=100)
"""Games on whole runs take longest, and with fewer guesses they could hardly raise an alarm at all."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One audit with a fault."""

    fault: Fault
    size: Size

    def __call__(self, seed: int) -> set[str]:
        return alarms(self.fault, seed, self.size)


@dataclass(frozen=True, slots=True)
class Honest:
    """One audit of what ships."""

    parts: tuple[Part, ...]
    size: Size

    def __call__(self, seed: int) -> set[str]:
        return {one.game.name for one in audit_noise(self.size, parts=self.parts, seed=seed).violated}


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
    alarmed = count(Planted(FAULTS[name], UNIT), RUNS)
    told(name, RUNS, alarmed)
    assert all(alarmed[game] >= LEAST for game in FAULTS[name].noticed_by)


def test_noise_and_units_that_ship_raise_no_alarm() -> None:
    alarmed = count(Honest((Part.NOISE, Part.PIPELINE), UNIT), HONEST_RUNS)
    told("what ships, noise and units", HONEST_RUNS, alarmed)
    assert alarmed["any"] == 0


def test_whole_runs_of_what_ships_raise_no_alarm() -> None:
    alarmed = count(Honest((Part.TRANSCRIPT,), FEW_WHOLE_RUNS), HONEST_RUNS)
    told("what ships, whole runs", HONEST_RUNS, alarmed)
    assert alarmed["any"] == 0


@pytest.mark.parametrize("name", ON_TRANSCRIPTS)
def test_the_large_ones_are_noticed_in_whole_runs(name: str) -> None:
    alarmed = count(Planted(ON_TRANSCRIPTS[name], WHOLE_RUNS), RUNS)
    told(f"{name}, in whole runs", RUNS, alarmed)
    assert all(alarmed[game] >= LEAST for game in ON_TRANSCRIPTS[name].noticed_by)
