"""Customers or events in CSV or Parquet: one file, all files of a folder, or those that a pattern names."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from fedseg.errors import DataError
from fedseg.node.sources.lines import WellFormedLines
from fedseg.node.sources.rows import Rows

BLOCK_BYTES = 2**20
"""What Arrow parses at a time. Every line is shorter, so no record spans more than two blocks, which Arrow refuses."""

BATCH_ROWS = 65_536

PAGE_BYTES = 2**16
"""What is read of a Parquet column at a time: pages, and not a row group, which may be hundreds of megabytes."""

_HIDDEN: Final = (".", "_")
"""How names begin of what other programs leave in a folder: drafts, marks of success."""


def files_of(path: Path, kind: str) -> list[Path]:
    """The files that a source's path means, in order: itself; all of this kind below a folder; those of a pattern.

    A path that is nothing on the disk and holds no pattern is itself: whoever opens it says that it is not there.
    """
    if path.is_dir():
        found = path.rglob(f"*.{kind}")
    elif not path.exists() and any(mark in str(path) for mark in "*?["):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    else:
        return [path]
    return sorted(one for one in found if one.is_file() and not one.name.startswith(_HIDDEN))


class Files(Rows):
    """Rows of one or several files of one kind. Every column of a CSV file is bytes."""

    def __init__(self, path: Path, kind: Literal["csv", "parquet"]) -> None:
        self.path = path
        self.kind: Literal["csv", "parquet"] = kind

    @property
    def place(self) -> str:
        """The name of the file, folder or pattern."""
        return self.path.name

    def parts(self) -> list[Path]:
        """The files.

        Raises:
            DataError: If there is none.
        """
        found = files_of(self.path, self.kind)
        if not found:
            raise DataError(
                "the data source holds no file",
                why=f"{self.path}: no file there that is called *.{self.kind}",
                fix="check [source] in node.toml; names that begin with . or _ do not count",
            )
        return found

    def schemas(self) -> Iterator[pa.Schema]:
        """Of each file."""
        for part in self.parts():
            try:
                yield pq.read_schema(part) if self.kind == "parquet" else _header(part)
            except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
                raise self._unreadable(part, error) from error

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """These columns of all files."""
        self.left_out = 0
        for part in self.parts():
            try:
                yield from self._parquet(part, wanted) if self.kind == "parquet" else self._csv(part, wanted)
            except (OSError, ValueError) as error:
                raise self._unreadable(part, error) from error

    def _parquet(self, part: Path, wanted: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(part, pre_buffer=False, buffer_size=PAGE_BYTES) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False)

    def _csv(self, part: Path, wanted: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        columns = _header(part).names if wanted is None else wanted
        with (
            WellFormedLines(part) as lines,
            pc_csv.open_csv(
                lines,
                read_options=pc_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                convert_options=pc_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.binary()),
                    include_columns=columns,
                    strings_can_be_null=False,
                ),
            ) as file,
        ):
            yield from file
            self.left_out += lines.left_out

    def _unreadable(self, part: Path, error: Exception) -> DataError:
        said = error.strerror if isinstance(error, OSError) else None
        return DataError(
            "the data source cannot be read",
            why=f"{part.name}: {said or f'it is not a readable {self.kind} file'}",
            fix="check [source] in node.toml",
        )


def _header(part: Path) -> pa.Schema:
    with WellFormedLines(part) as lines:
        names = next(csv.reader([lines.header.decode("utf-8")]), [])
    return pa.schema([(name, pa.binary()) for name in names])
