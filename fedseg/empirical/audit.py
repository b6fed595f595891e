"""The audit: all games, one false-alarm probability for all of them together, one verdict.

Thresholds, directions and numbers of guesses are fixed before the guesses are looked at, and every game that is played
is reported. So no alarm comes from trying often. No alarm is no proof either: a loss smaller than a game would notice
stays unseen, and so does whatever no game plays.
"""

import contextlib
import tempfile
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedseg.empirical import door, pipeline, transcript
from fedseg.empirical.game import FALSE_ALARM, Finding, Game
from fedseg.empirical.parts import Part, Size
from fedseg.empirical.scratch import require_scratch
from fedseg.node.home import NodeHome
from fedseg.privacy.noise import NoiseSource, SystemNoise

PASSED: Final = "no violation found"
FAILED: Final = "VIOLATION FOUND"

Progress = Callable[[str, int, int], None]
"""Takes the stage, what is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found."""

    findings: tuple[Finding, ...]

    @property
    def violated(self) -> tuple[Finding, ...]:
        """The games that raised the alarm."""
        return tuple(one for one in self.findings if one.violated)

    @property
    def verdict(self) -> str:
        """In words; never that anything was proved."""
        return FAILED if self.violated else PASSED


def audit_noise(
    size: Size,
    *,
    parts: Collection[Part] = tuple(Part),
    seed: int = 1,
    source: NoiseSource | None = None,
    scratch: Path | None = None,
    real: Sequence[NodeHome] = (),
    progress: Progress = lambda _stage, _done, _total: None,
) -> Audit:
    """Play the games of these parts.

    Args:
        size: How many guesses there are.
        parts: What to play on.
        seed: Of the public coins: who is in which table.
        source: Where noise comes from; the system's, as in every release.
        scratch: New or empty directory for the scratch units; a temporary one that is removed afterwards if None.
        real: Homes of real units that are known: nothing is put where they or their sources are.
        progress: Told after every release and run.

    Raises:
        SettingsError: If the scratch directory could hold anything real. Nothing was played.
    """
    noise = SystemNoise() if source is None else source
    with _place(scratch, real) as place:
        meter = _Meter(progress, _turns(size, parts))
        findings: list[Finding] = []
        if Part.NOISE in parts:
            for game in door.games(_false_alarm()):
                findings.append(door.play(game, size.noise, seed, noise))
                meter.turn("playing on the noise")
        if Part.PIPELINE in parts:
            turned = meter.of("playing on a whole unit")
            games = pipeline.games(_false_alarm())
            findings += pipeline.play(games, size.pipeline, seed, noise, place=place, turned=turned)
        if Part.TRANSCRIPT in parts:
            turned = meter.of("playing on whole runs")
            findings += [
                transcript.play(game, size.transcript, seed, noise, turned) for game in transcript.games(_false_alarm())
            ]
    return Audit(tuple(findings))


def every_game() -> list[Game]:
    """All games there are, each with its part of the false-alarm probability (Bonferroni), whichever are played."""
    each = _false_alarm()
    return [*door.games(each), *pipeline.games(each), *transcript.games(each)]


def _false_alarm() -> float:
    return FALSE_ALARM / (len(door.DIRECTIONS) + len(pipeline.Kind) + len(transcript.RUNS_OF))


def _turns(size: Size, parts: Collection[Part]) -> int:
    of_part = {
        Part.NOISE: len(door.DIRECTIONS),
        Part.PIPELINE: pipeline.releases_for(size.pipeline),
        Part.TRANSCRIPT: len(transcript.RUNS_OF) * size.transcript,
    }
    return sum(turns for part, turns in of_part.items() if part in parts)


@contextlib.contextmanager
def _place(scratch: Path | None, real: Sequence[NodeHome]) -> Generator[Path]:
    """Where the scratch units go."""
    if scratch is not None:
        require_scratch(scratch, real)
        yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="fedseg-noise-") as folder:
        require_scratch(Path(folder), real)
        yield Path(folder)


class _Meter:
    """How far the audit is."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def turn(self, stage: str) -> None:
        """One more turn is done."""
        self._done += 1
        self._progress(stage, self._done, self._total)

    def of(self, stage: str) -> Callable[[], None]:
        """What to call after each turn of a stage."""
        return lambda: self.turn(stage)
