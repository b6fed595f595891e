"""What every source is to the rest of a node: batches of its columns as they stand there."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import pyarrow as pa


class Rows(ABC):
    """Rows of a source, in no order that anything may depend on. Reading starts anew each time."""

    left_out: int = 0
    """Lines of CSV files that are no record by themselves, once all were read."""
    without_key: int = 0
    """Events that name no customer and so are in no row, once all were read."""

    @property
    @abstractmethod
    def place(self) -> str:
        """What errors call it."""

    @abstractmethod
    def schemas(self) -> Iterator[pa.Schema]:
        """Names and types of the columns, of each part of the source; no row is read.

        Raises:
            DataError: If it cannot be read.
        """

    @abstractmethod
    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """These columns of all rows; all of its columns if none is named.

        Raises:
            DataError: If it cannot be read: for causes that depend on no row.
        """

    def require_readable(self) -> None:  # noqa: B027 (nothing to be made of rows that are one customer each)
        """Beforehand: nothing in what the rows are made of is missing only because it cannot be read.

        Raises:
            DataError: If something is.
        """
