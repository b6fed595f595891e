"""What cells of events and of features are: exact numbers with a fixed count of digits, dates, texts, answers.

Numbers stay exact until the last division: a sum of floating-point numbers depends on the order of its terms, and so on
who else is in the file.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

DIGITS_MAX: Final = 38
"""Most digits of a number anywhere."""
COLUMN_DIGITS_MAX: Final = 18
"""Most digits of a number in an event."""
COUNT_DIGITS: Final = 12
"""Digits of the number of one customer's events."""


class Kind(enum.Enum):
    """What a cell is; null is a missing one in each of them."""

    EXACT = "a number"
    REAL = "a quotient"
    """float64: what a division gives. It can be calculated with, and never summed."""
    DATE = "a date"
    TEXT = "a text"
    TRUTH = "yes or no"
    NOTHING = "null"


@dataclass(frozen=True, slots=True)
class CellType:
    """A kind, and of an exact number how many digits it has, of which how many are decimals."""

    kind: Kind
    digits: int = 0
    decimals: int = 0

    @property
    def sql(self) -> str:
        """The type in DuckDB."""
        if self.kind is Kind.EXACT:
            return f"DECIMAL({self.digits}, {self.decimals})"
        return {"REAL": "DOUBLE", "DATE": "DATE", "TEXT": "VARCHAR", "TRUTH": "BOOLEAN"}[self.kind.name]

    @property
    def arrow(self) -> pa.DataType:
        """The type in Arrow."""
        if self.kind is Kind.EXACT:
            return pa.decimal128(self.digits, self.decimals)
        kinds = {"REAL": pa.float64(), "DATE": pa.date32(), "TEXT": pa.string(), "TRUTH": pa.bool_()}
        return kinds[self.kind.name]


REAL: Final = CellType(Kind.REAL)
DATE: Final = CellType(Kind.DATE)
TEXT: Final = CellType(Kind.TEXT)
TRUTH: Final = CellType(Kind.TRUTH)
NOTHING: Final = CellType(Kind.NOTHING)
COUNT: Final = CellType(Kind.EXACT, COUNT_DIGITS)
DAYS: Final = CellType(Kind.EXACT, 7)

_NAMED: Final = {"date": DATE, "text": TEXT, "truth": TRUTH, "integer": CellType(Kind.EXACT, COLUMN_DIGITS_MAX)}
_DECIMAL: Final = re.compile(r"decimal\(([1-9][0-9]?), ?([0-9]{1,2})\)")


def parse_cell_type(text: str) -> CellType:
    """The type of an event's column, as settings write it.

    Raises:
        ValueError: If there is no such type.

    >>> parse_cell_type("decimal(12,2)").sql
    'DECIMAL(12, 2)'
    """
    if text in _NAMED:
        return _NAMED[text]
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is none of text, truth, date, integer, decimal(digits,decimals)")
    digits, decimals = (int(one) for one in found.groups())
    if not decimals <= digits <= COLUMN_DIGITS_MAX:
        raise ValueError(f"{text!r}: a number has at most {COLUMN_DIGITS_MAX} digits, decimals among them")
    return CellType(Kind.EXACT, digits, decimals)


def common(one: CellType, other: CellType) -> CellType | None:
    """The type that holds the values of both exactly; None if none does."""
    if one.kind is Kind.NOTHING:
        return other
    if one.kind is not other.kind:
        return (
            one if other.kind is Kind.NOTHING else REAL if {one.kind, other.kind} == {Kind.EXACT, Kind.REAL} else None
        )
    decimals = max(one.decimals, other.decimals)
    whole = max(one.digits - one.decimals, other.digits - other.decimals)
    return CellType(one.kind, whole + decimals, decimals) if whole + decimals <= DIGITS_MAX else None
