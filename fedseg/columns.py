"""What a feature's column is called and what its cells are. Names and types from the plan: no rows, no table."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


class ColumnType(enum.Enum):
    """What the cells of a feature column are; null is a missing one in each of them."""

    NUMBER = "number"
    """float64; NaN and infinities occur."""
    TRUTH = "truth"
    """Yes or no."""
    TEXT = "text"
    """Bytes, as they stand in the source: of any length, and not always UTF-8."""

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the cells."""
        return {"number": pa.float64(), "truth": pa.bool_(), "text": pa.large_binary()}[self.value]


@dataclass(frozen=True, slots=True)
class Column:
    """One feature column of a table."""

    name: str
    type: ColumnType = ColumnType.NUMBER


def names_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """The names of these columns."""
    return tuple(column.name for column in columns)


def numbers(*names: str) -> tuple[Column, ...]:
    """Columns of numbers with these names."""
    return tuple(Column(name) for name in names)
