"""What pages share: templates that ship with fedseg, figures as people read them, and files replaced in one step."""

import math
import os
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from fedseg.errors import StorageError
from fedseg.report.scales import whole


def environment(filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Templates by their names, with these filters; everything that is not marked as markup is escaped."""
    made = Environment(
        loader=FunctionLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(filters)
    return made


def template(name: str) -> str:
    """A template, or a style sheet."""
    return files("fedseg.report").joinpath("templates", *name.split("/")).read_text(encoding="utf-8")


def write_files(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, each replaced in one step: nobody sees half of one, a full disk leaves the old one.

    Raises:
        StorageError: If one cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _replace(out / name, content)
    except OSError as error:
        raise StorageError(
            f"cannot write the report to {out}",
            why=error.strerror or "the disk refused",
            fix="free space, or name another folder with --out",
        ) from error


def probability(value: Fraction) -> str:
    """A small probability in words: "1 in 1,000,000", rounded up."""
    return f"1 in {whole(math.floor(1 / value))}"


def decimal(value: Fraction, digits: int = 3) -> str:
    """A fraction with so many significant digits, rounded up: what is shown beside an exact one."""
    above = Context(prec=40, rounding=ROUND_CEILING).divide(Decimal(value.numerator), Decimal(value.denominator))
    return format(Context(prec=digits, rounding=ROUND_CEILING).plus(above).normalize(), "f")


def used(part: Fraction, cap: Fraction) -> str:
    """A part of a budget in whole per cent, rounded up: more is never said to be left than is."""
    return f"{math.ceil(100 * part / cap)} %" if cap else "100 %"


def left(part: Fraction, cap: Fraction) -> str:
    """What is left of a budget in whole per cent, rounded down."""
    return f"{math.floor(100 * part / cap)} %" if cap else "0 %"


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)  # noqa: PTH105 (Path.replace says the same less plainly)
    finally:
        part.unlink(missing_ok=True)
