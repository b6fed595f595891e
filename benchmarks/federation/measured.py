"""What is measured of one run, in seconds of the machine's monotonic clock, which all its processes share."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """Moments of one run of a federation."""

    submitted: float
    """The command that hands in the run was called."""
    first_reply: float
    """The server had a reply to read for the first time."""
    rounds: tuple[float, ...]
    """Seconds of each round: from when its request could be sent until all its replies were in."""
    finished: float
    """The command that waits for the end returned."""

    def __post_init__(self) -> None:
        if not (self.rounds and self.submitted < self.first_reply < self.finished and min(self.rounds) > 0):
            raise ValueError(f"a run has rounds and moments in order, got {self}")


def round_seconds_median(runs: Sequence[Run]) -> float:
    """Median over all rounds of all runs."""
    return statistics.median(seconds for run in runs for seconds in run.rounds)


def first_reply_seconds_median(runs: Sequence[Run]) -> float:
    """Median over runs: from handing in to the first reply."""
    return statistics.median(run.first_reply - run.submitted for run in runs)


def run_seconds_median(runs: Sequence[Run]) -> float:
    """Median over runs: from handing in to the end."""
    return statistics.median(run.finished - run.submitted for run in runs)
