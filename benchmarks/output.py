"""How a benchmark speaks: a table, or `{"rows": [...]}`."""

import argparse
import json
from collections.abc import Mapping, Sequence

from fedseg.cli.output import table

Row = Mapping[str, str | int | float]


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the option every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--format", choices=["text", "json"], default="text")
    return made


def show(rows: Sequence[Row], format_: str) -> None:
    """Print the rows, all with the same keys."""
    if format_ == "json":
        print(json.dumps({"rows": rows}, indent=2))
        return
    cells = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    print(table([list(rows[0]), *cells], right=range(len(rows[0]))))
