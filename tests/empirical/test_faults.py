"""The audit notices what is planted into the shipped code, and raises no alarm about what ships.

With these numbers of guesses every fault here is noticed more than 999 times in 1000, and an honest audit raises a
false alarm at most once in a million. The soak counts it: each fault twenty times, what ships two hundred times.
"""

import pytest

from fedseg.empirical.audit import PASSED, audit_noise
from fedseg.empirical.parts import Size
from tests.empirical.planted import FAULTS, ON_TRANSCRIPTS, alarms

pytestmark = pytest.mark.slow

SHORT = Size(noise=8000, pipeline=1600, transcript=120)
"""So that the games on whole runs can raise an alarm at all, in little time."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed_by_every_game_that_it_is_in(name: str) -> None:
    assert alarms(FAULTS[name], seed=2) >= FAULTS[name].noticed_by


@pytest.mark.parametrize("name", ["noise for half the sensitivity"])
def test_a_fault_is_noticed_in_whole_runs(name: str) -> None:
    assert alarms(ON_TRANSCRIPTS[name], seed=2, size=Size(noise=0, pipeline=0, transcript=300)) >= {
        "transcript-segments",
        "transcript-bounds",
    }


def test_what_ships_raises_no_alarm() -> None:
    found = audit_noise(SHORT, seed=2)
    assert found.verdict == PASSED
    assert not found.violated
    # A guesser that is told so much learns nearly what it may: the games are not blind.
    assert all(one.right / one.guesses > one.game.allowed - 0.2 for one in found.findings)
