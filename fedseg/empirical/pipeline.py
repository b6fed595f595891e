"""Games against everything a unit does: read the table, gate, clip, quantise, sum, noise, charge, sign, serialise.

Canaries of several kinds stand in a scratch federation of two units that both know them, each canary in a cell of its
own, so one release is a turn of many. The guesser sees nothing but the bytes that leave, and is told nothing about the
code: from the first turns it learns in which direction a canary moves its cell's numbers, the others it guesses.
"""

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import tomli_w
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.clustering.schedule import Budget, Profile, Round, schedule
from fedseg.empirical.game import Finding, Game, fair_coins
from fedseg.empirical.scratch import COLUMNS, UNITS, Row, make_units, write_customers
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.plan import Plan, TrustModel, parse_plan
from fedseg.policy.purposes import Purpose
from fedseg.privacy.budget import PrivacyBudget, fraction_text, rho_of
from fedseg.privacy.noise import NoiseSource
from fedseg.server.contribution import parse_contribution

BUDGET: Final = PrivacyBudget(Fraction(20), Fraction(1, 10**6))
"""What each plan promises; half of it is for the round that is played, which makes mu about 2."""

STEP: Final = 1
"""The round that is played: the sketch, which has most cells."""

K: Final = 512
EXPECTED_CUSTOMERS: Final = 1000
SPAN: Final = 1000
"""Range of both columns in the plan."""

LEARNING: Final = 4
"""One of so many turns is for learning; the others are guessed."""

OTHERS: Final = 40
"""Customers beside the canaries, in each unit."""

_OFFSET: Final = 4000
"""How far, in encoded units, a canary stands from its cell's reference point: far beyond the clip radius of 1."""


class Kind(enum.Enum):
    """What a canary is like: its game's name, what the game asks, how far right it stands, and what its rows hold."""

    def __init__(self, game: str, question: str, at: Fraction, places: tuple[tuple[str, ...], ...]) -> None:
        self.game = game
        self.question = question
        self.at = at
        """In parts of SPAN."""
        self.places = places
        """What stands in the first column of all its rows; canaries take turns with these."""

    PLAIN = (
        "pipeline-plain",
        "does a customer of both units lose no more than is promised",
        Fraction(1, 4),
        (("250",),),
    )
    REPEATED = (
        "pipeline-repeated",
        "does a customer with three rows count once",
        Fraction(1, 2),
        (("500", "500.1", "500.2"),),
    )
    ODD = (  # at the right edge: beyond the bound, or missing, for which the plan has that bound as well
        "pipeline-odd",
        "does a value that is far too large, infinite, no number or missing count no more than another",
        Fraction(1),
        (("1e300",), ("inf",), ("nan",), ("",)),
    )
    REFUSING = (
        "pipeline-refusing",
        "is a customer who took consent back not counted at all",
        Fraction(3, 4),
        (("750",),),
    )


@dataclass(frozen=True, slots=True)
class Canary:
    """A customer who may be there."""

    kind: Kind
    cell: int
    level: int
    """Numbered from the bottom."""
    levels: int

    @property
    def name(self) -> str:
        """Its identifier."""
        return f"canary-{self.cell}"

    @property
    def rows(self) -> list[Row]:
        """Its rows in the table, if it is there."""
        level = f"{SPAN * self.height:.6f}"
        return [Row(self.name, place, level) for place in self.kind.places[self.level % len(self.kind.places)]]

    @property
    def height(self) -> float:
        """In parts of SPAN."""
        return (self.level + 0.5) / self.levels

    @property
    def center(self) -> tuple[int, int]:
        """The reference point of its cell: left of it, so that its residual is cut to the clip radius."""
        return round((2 * float(self.kind.at) - 1) * FEATURE_MAX) - _OFFSET, round((2 * self.height - 1) * FEATURE_MAX)


def games(false_alarm: float) -> list[Game]:
    """The games that `play` plays, all at once."""
    # The budget's own part, not what the plan makes of it for a unit: that division is among what is tested.
    rho = rho_of(BUDGET) * _round().share
    return [Game(kind.game, kind.question, Fraction(0) if kind is Kind.REFUSING else rho, false_alarm) for kind in Kind]


def releases_for(guesses: int) -> int:
    """How many releases of each unit so many guesses about each kind of canary take, with those to learn from."""
    return -(-_turns(guesses) // _levels())


def play(
    games: Sequence[Game], guesses: int, seed: int, source: NoiseSource, *, place: Path, turned: Callable[[], None]
) -> list[Finding]:
    """Make a scratch federation at `place`, let it release, and guess.

    Args:
        games: As `games` gives them.
        guesses: About each kind of canary.
        seed: Of the coins.
        source: Where the units' noise comes from.
        place: An empty or new directory, as `scratch.require_scratch` allows.
        turned: Called after every release.
    """
    canaries = _canaries()
    homes = make_units(
        place,
        consenting=[*(one.name for one in canaries if one.kind is not Kind.REFUSING), *map(_other, range(OTHERS))],
        refusing=[one.name for one in canaries if one.kind is Kind.REFUSING],
    )
    coins = [fair_coins(len(canaries), (seed, turn)) for turn in range(releases_for(guesses))]
    seen: list[NDArray[np.float64]] = []
    for turn, present in enumerate(coins):
        seen.append(_released(homes, canaries, present, turn, source))
        turned()
    kinds = np.array([one.kind.game for one in canaries])
    of_kind = ((game, kinds == game.name) for game in games)
    return [
        _guessed(
            game, np.concatenate([one[mine] for one in seen]), np.concatenate([one[mine] for one in coins]), guesses
        )
        for game, mine in of_kind
    ]


def _guessed(game: Game, seen: NDArray[np.float64], coins: NDArray[np.bool_], guesses: int) -> Finding:
    """Learn from the first turns, and guess the next ones: by which side of the middle each lies on.

    Args:
        game: The one that is played.
        seen: What left the units about each turn's cell, shape (turns, numbers).
        coins: Whether the canary was there.
        guesses: How many turns to guess.
    """
    learning = _turns(guesses) - guesses
    known, there = seen[:learning], coins[:learning]
    having, without = known[there].mean(axis=0), known[~there].mean(axis=0)
    direction, middle = having - without, (having + without) / 2
    unknown = seen[learning : learning + guesses]
    return Finding.of(game, (unknown - middle) @ direction > 0, coins[learning : learning + guesses])


def _released(
    homes: list[NodeHome], canaries: list[Canary], present: NDArray[np.bool_], turn: int, source: NoiseSource
) -> NDArray[np.float64]:
    """What leaves both units about each canary's cell, in the bytes that leave; shape (canaries, units * width)."""
    document = _plan_document(turn, homes)
    plan = parse_plan(document)
    request = _request(plan, canaries)
    now, digest = datetime.now(UTC), request_sha256(plan.digest, request)
    blocks: list[NDArray[np.int64]] = []
    for home in homes:
        write_customers(home, _table(canaries, present))
        approve(home, plan, document, now=now)
        reply = contribute(home, plan.digest, request, digest, now=now, source=source)
        blocks.append(parse_contribution(reply.payload, plan).values)
    cells = [one.cell for one in canaries]
    return np.concatenate([block[cells] for block in blocks], axis=1).astype(np.float64)


def _table(canaries: list[Canary], present: NDArray[np.bool_]) -> Iterator[Row]:
    for number in range(OTHERS):
        yield Row(_other(number), "0", f"{number / OTHERS:.3f}")
    for canary, there in zip(canaries, present.tolist(), strict=True):
        if there:
            yield from canary.rows


def _other(number: int) -> str:
    return f"other-{number}"


def _canaries() -> list[Canary]:
    """As many of each kind as there are cells for, one a cell."""
    levels, kinds = _levels(), len(Kind)
    return [
        Canary(kind, level * kinds + number, level, levels)
        for level in range(levels)
        for number, kind in enumerate(Kind)
    ]


def _levels() -> int:
    """Canaries of each kind; some cells are left for everybody else."""
    return (_round().cells - 1) // len(Kind)


def _turns(guesses: int) -> int:
    """Turns for so many guesses, with those to learn from."""
    return guesses + -(-guesses // (LEARNING - 1))


def _round() -> Round:
    """The round that is played."""
    at_unit = Budget(rho_of(BUDGET) / len(UNITS), len(UNITS))
    return schedule(Profile.SHORT, K, len(COLUMNS), EXPECTED_CUSTOMERS, at_unit)[STEP]


def _request(plan: Plan, canaries: list[Canary]) -> RoundRequest:
    """A reference point beside each canary; all others fall to the points that are left, in a corner."""
    centers = np.full((plan.terms[STEP].cells, len(COLUMNS)), -FEATURE_MAX, np.int32)
    centers[[one.cell for one in canaries]] = np.array([one.center for one in canaries], np.int32)
    return RoundRequest(STEP, centers, np.ones(len(centers), np.int32))


def _plan_document(turn: int, homes: list[NodeHome]) -> bytes:
    """A plan of its own for every release: none is answered twice."""
    feature = {"lower": 0, "upper": SPAN, "missing": SPAN}
    terms = {
        "version": 1,
        "name": "scratch",
        "purpose": str(Purpose.SEGMENT_STATISTICS),
        "trust": str(TrustModel.UNIT_NOISE),
        "k": K,
        "quorum": len(UNITS),
        "deadline_seconds": 60,
        "reply_slot_seconds": 0,
        "max_units_per_customer": len(UNITS),
        "min_segment_size": 1,
        "budget": {"epsilon": fraction_text(BUDGET.epsilon), "delta": fraction_text(BUDGET.delta)},
        "algorithm": {"name": "cells", "seed": turn, "expected_customers": EXPECTED_CUSTOMERS, "profile": "short"},
        "features": [{"name": name, "label": name, **feature} for name in COLUMNS],
        "units": [{"name": home.settings.unit, "public_key": home.key.public.to_text()} for home in homes],
    }
    return tomli_w.dumps(terms).encode()
