"""The records of an export, line by line, with what could not be read and why. A line is a record.

So a stray quotation mark spoils its own line and not those behind it, and every refusal has a line number. Of a line
too long only a piece is ever in memory. No reason repeats anything that stands in the file.
"""

import csv
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from fedseg.errors import ConsentEventError, DataError, MissingColumnError
from fedseg.node.consent.mapping import ConsentMapping, refused
from fedseg.node.sources.lines import BYTE_ORDER_MARK

LINE_BYTES_MAX: Final = 2**20
"""A longer line is refused."""

Record = dict[str, Any]


class ConsentFile:
    """An open export. Read it once, from the beginning to the end.

    Raises:
        DataError: If it cannot be opened, is empty, or has no heading.
        MissingColumnError: If a CSV file lacks a column that the mapping names.
    """

    def __init__(self, path: Path, mapping: ConsentMapping) -> None:
        self._path: Final = path
        self._mapping: Final = mapping
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise self._unreadable(error.strerror or "unknown cause") from error
        self._before = os.fstat(self._file.fileno())
        self._hash = hashlib.sha256()
        self._done = 0
        self._lines = self._numbered()
        self._parse: Callable[[str], Record] = _parse_json
        with ExitStack() as closing:
            closing.callback(self._file.close)
            if mapping.format == "csv":
                self._parse = self._heading()
            closing.pop_all()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._before.st_size

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._done

    def records(self) -> Iterator[tuple[int, Record | ConsentEventError]]:
        """Each line's number, from 1, with its record or why it has none. Blank lines are no records.

        Raises:
            DataError: At the end, if the file changed while it was read, or holds no record; or if the disk fails.
        """
        found = False
        for number, line in self._lines:
            found = True
            yield number, self._read(line)
        if not found:
            raise self._unreadable("it holds no record")
        self._require_unchanged()

    def sha256(self) -> str:
        """Of the bytes read."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self, line: bytes) -> Record | ConsentEventError:
        try:
            return self._parse(_text(line))
        except ConsentEventError as error:
            return error

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are not blank; of one too long, only a piece longer than any line may be."""
        try:
            for number in range(1, 2**63):
                line = self._line(LINE_BYTES_MAX + 1)
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                    if not line:
                        raise self._unreadable("it is empty")
                if not line:
                    return
                rest = line
                while not rest.endswith(b"\n") and (rest := self._line(LINE_BYTES_MAX)):
                    pass
                if line.strip():
                    yield number, line
        except OSError as error:
            raise self._unreadable(error.strerror or "unknown cause") from error

    def _line(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        self._hash.update(line)
        self._done += len(line)
        return line

    def _heading(self) -> Callable[[str], Record]:
        """A function that reads one line of the CSV file as a record."""
        _, line = next(self._lines, (0, b""))
        split = _splitter(self._mapping.delimiter)
        try:
            names = split(_text(line))
        except ConsentEventError as error:
            raise self._unreadable(f"its first line is no heading: {error.why}") from error
        for name in self._mapping.fields:
            if name not in names and name not in self._mapping.optional:
                raise MissingColumnError(
                    f"the export has no column {name!r}",
                    why=f"the mapping names it, and {self._path.name} has other columns in its first line",
                    fix="export the column, or correct the mapping; check its delimiter too",
                )
            if names.count(name) > 1:
                raise DataError(
                    f"the export has {names.count(name)} columns {name!r}",
                    why="nobody can say which of them is meant",
                    fix="give each column its own name",
                )
        nested = [names.index(name) for name in self._mapping.json_columns]

        def parse(line: str) -> Record:
            cells: list[Any] = split(line)
            if len(cells) != len(names):
                raise refused("it has more or fewer fields than the heading")
            for place in nested:
                cells[place] = _parsed(cells[place]) if cells[place] else None
            return dict(zip(names, cells, strict=True))

        return parse

    def _require_unchanged(self) -> None:
        after = os.fstat(self._file.fileno())
        if not stat.S_ISREG(after.st_mode):  # a pipe holds what is yet to be read, and changes as it is
            return
        if (self._before.st_size, self._before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise self._unreadable("it changed while it was read")

    def _unreadable(self, why: str) -> DataError:
        return DataError(
            "the export cannot be read",
            why=f"{self._path.name}: {why}; nothing was imported",
            fix="export it again as UTF-8, and import it once it is complete",
        )


def _text(line: bytes) -> str:
    if len(line) > LINE_BYTES_MAX:
        raise refused(f"it is longer than {LINE_BYTES_MAX} bytes")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise refused("it is not UTF-8") from error
    if "\r" in text or "\0" in text:
        raise refused("it holds a carriage return or a null character")
    return text


def _splitter(delimiter: str) -> Callable[[str], list[str]]:
    """A function that splits one line into its fields."""
    other = rf'[^"{re.escape(delimiter)}]'
    one_field = rf'(?:"(?:[^"]|"")*"|{other}*)'
    record = re.compile(rf"{one_field}(?:{re.escape(delimiter)}{one_field})*")

    def split(line: str) -> list[str]:
        if '"' not in line:
            return line.split(delimiter)
        if not record.fullmatch(line):
            raise refused("its quotation marks do not match")
        try:
            return next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise refused("a field of it is too long") from error

    return split


def _parse_json(line: str) -> Record:
    found = _parsed(line)
    if not isinstance(found, dict):
        raise refused("it is no JSON object")
    return found


def _parsed(text: str) -> Any:
    """JSON, strictly: no key twice, no NaN, whole numbers as they are written, others as decimals."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise refused("it is no JSON, repeats a key, or holds a number that is none") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(_: str) -> None:
    raise ValueError("not a number")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_int=str, parse_float=Decimal
)
