"""What an audit can be asked for. Loads nothing: the command line reads it to print its help."""

import enum
from dataclasses import dataclass
from typing import Final, Self

GUESSES: Final = 1600
"""Enough for every part but the transcript to notice noise that is too small by the root of 2."""

GUESSES_MIN: Final = 800
"""With fewer, the games with the fewest guesses would notice next to nothing."""

GUESSES_MAX: Final = 100_000
"""The plans for more of them would not fit into the scratch units' caps."""


class Part(enum.StrEnum):
    """What games are played on."""

    NOISE = "noise"
    """Sum, noise and release alone."""
    PIPELINE = "pipeline"
    """Everything a unit does."""
    TRANSCRIPT = "transcript"
    """All rounds of a run."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many guesses there are in each game of a part."""

    noise: int
    pipeline: int
    transcript: int

    @classmethod
    def of(cls, guesses: int) -> Self:
        """What costs less is played more often: the noise ten times, a whole run a quarter as often as a unit."""
        return cls(10 * guesses, guesses, guesses // 4)
