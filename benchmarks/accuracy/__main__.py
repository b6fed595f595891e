"""k-means cost of the released centers over the best of ten non-private runs, ours beside published private peers.

A cell is a data set, trust model, number of units, budget and algorithm; the same command prints the same numbers.
Secure aggregation is simulated: one noise on the sum over all units. diffprivlib is central and spends a pure epsilon;
scikit-learn has no privacy and one run.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields

from benchmarks.accuracy.comparison import GeometricMean, Worse, behind_peers, geometric_means, load, worse_than_before
from benchmarks.accuracy.diffprivlib_peer import prepare
from benchmarks.accuracy.measurement import ALGORITHMS, DIFFPRIVLIB, Row
from benchmarks.accuracy.options import options
from benchmarks.accuracy.table import Asked, cells, measure_all
from fedseg.cli.output import Format, show_error, table
from fedseg.errors import DeploymentError, SettingsError


def main() -> int:
    """Measure and print; 1 if a check failed, 2 if the command is wrong or diffprivlib is asked for and missing."""
    chosen = options(__doc__ or "").parse_args()
    try:
        rows = [row for path in chosen.tables for row in load(path)] if chosen.tables else _measured(chosen)
        worse = worse_than_before(rows, load(chosen.against), str(chosen.against)) if chosen.against else []
        behind = behind_peers(rows) if chosen.check else []
    except SettingsError as error:
        show_error(Format(chosen.format), error)
        return error.exit_code
    parts: dict[str, Sequence[Row | GeometricMean | Worse]] = {"rows": rows, "geometric_means": geometric_means(rows)}
    parts |= {"worse": worse} if chosen.against else {}
    parts |= {"behind": behind} if chosen.check else {}
    _show(parts, chosen.format)
    return 1 if behind else 0


def _measured(chosen: Namespace) -> list[Row]:
    algorithms = _available(chosen.algorithms)
    asked = Asked(chosen.data, chosen.trusts, chosen.units, chosen.epsilons, chosen.deltas, algorithms)
    return measure_all(cells(asked), chosen.repetitions, chosen.first_seed, chosen.jobs)


def _available(algorithms: Sequence[str]) -> Sequence[str]:
    """The same, less diffprivlib if its environment cannot be made and nobody asked for it by name; then it says so.

    Raises:
        DeploymentError: If diffprivlib was asked for by name and its environment cannot be made.
    """
    if DIFFPRIVLIB not in algorithms:
        return algorithms
    try:
        prepare()
    except DeploymentError as error:
        if algorithms is not ALGORITHMS:
            raise
        show_error(Format.TEXT, error)
        return [name for name in algorithms if name != DIFFPRIVLIB]
    return algorithms


def _show(parts: Mapping[str, Sequence[Row | GeometricMean | Worse]], format_: str) -> None:
    if format_ == "json":
        print(json.dumps({name: [asdict(line) for line in lines] for name, lines in parts.items()}, indent=2))
        return
    for name, lines in parts.items():
        print(f"{name.replace('_', ' ')}:{'' if lines else ' none'}")
        if lines:
            head = [field.name for field in fields(lines[0])]
            print(table([head, *([_text(value) for value in astuple(line)] for line in lines)], right=range(len(head))))
        print()


def _text(value: str | float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
