"""The command line of `python -m benchmarks.accuracy`: text to values, each checked where it comes in."""

import argparse
import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

from benchmarks.accuracy.data_sets import DATA_SETS
from benchmarks.accuracy.measurement import ALGORITHMS, FIRST_SEED
from benchmarks.accuracy.trust import Trust
from benchmarks.output import parser
from fedseg.privacy.budget import PrivacyBudget

DELTA = Fraction(1, 10**6)
EPSILONS = "0.25,0.5,1,2,4"
POWER_OF_N = "n^-1.1"
TRUSTS = (Trust.UNIT_NOISE, Trust.SECURE_AGGREGATION)


def options(description: str) -> argparse.ArgumentParser:
    """All options, with the whole table as the default."""
    made = parser(description)
    data = made.add_mutually_exclusive_group()
    data.add_argument("--families", dest="data", type=_families, default=list(DATA_SETS), help="synthetic,real")
    data.add_argument("--data", type=_names(DATA_SETS), help=f"some data sets: {','.join(DATA_SETS)}")
    made.add_argument("--trust", dest="trusts", type=_trusts, default=TRUSTS, help=",".join(TRUSTS))
    made.add_argument("--units", type=_counts, default=[5, 10, 20], help="that each add noise: 5,10,20")
    made.add_argument("--epsilon", dest="epsilons", type=_epsilons, default=_epsilons(EPSILONS), help=EPSILONS)
    made.add_argument(
        "--delta", dest="deltas", type=_deltas, default=[DELTA], help=f"1e-6; {POWER_OF_N} too, for real data alone"
    )
    made.add_argument("--algorithms", type=_names(ALGORITHMS), default=ALGORITHMS, help=",".join(ALGORITHMS))
    made.add_argument("--repetitions", type=_count, default=20, help="runs of a cell, by turns on five draws")
    made.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the data; those below 200 are for tuning")
    made.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="processes, of one thread each")
    made.add_argument("--from", dest="tables", type=Path, nargs="+", help="read these outputs, measure nothing")
    made.add_argument("--against", type=Path, help="an earlier --format json: say which cells got worse by over 1 %%")
    made.add_argument("--check", action="store_true", help="exit 1 if a peer beats ours anywhere by over 1 %%")
    return made


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(known)}")
        return text.split(",")

    return names


def _families(text: str) -> list[str]:
    asked = [family == "real" for family in _names(["synthetic", "real"])(text)]
    return [name for name, one in DATA_SETS.items() if one.is_real in asked]


def _trusts(text: str) -> list[Trust]:
    return [Trust(name) for name in _names(TRUSTS)(text)]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(one) for one in text.split(",")]


def _epsilons(text: str) -> list[Fraction]:
    return [_budget(one, str(DELTA)).epsilon for one in text.split(",")]


def _deltas(text: str) -> list[Fraction | None]:
    return [None if one == POWER_OF_N else _budget("1", one).delta for one in text.split(",")]


def _budget(epsilon: str, delta: str) -> PrivacyBudget:
    try:
        return PrivacyBudget(Fraction(epsilon), Fraction(delta))
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
