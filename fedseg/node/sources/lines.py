"""A CSV file's lines: those that are one record by themselves, and no others. Bytes in, bytes out."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = re.compile(rb'(?:"(?:[^"\r]|"")*"|[^",\r]*)(?:,(?:"(?:[^"\r]|"")*"|[^",\r]*))*')
"""One well-formed CSV record on one line. No carriage return, quoted or not: Arrow would cut the file there."""

QUOTED = re.compile(rb'"[^"]*"')
"""In a record, all that stands between quotes; an escaped quote ends one such part and starts the next."""

LINE_BYTES_MAX = 2**17
"""A longer line is left out."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

LINES_AT_ONCE = 256
"""CSV lines handed to Arrow at a time; no result depends on it."""


class WellFormedLines(io.RawIOBase):
    """A CSV file's header and its lines, less those that are not one record of as many fields by themselves.

    Without this a stray quotation mark in one customer's row would swallow the rows behind it, and one customer would
    change what is counted of others. So a record is a line: one with an unbalanced quote, a carriage return inside, or
    too many or too few fields is left out, alone. So is one too long for Arrow to parse, which would otherwise stop
    the whole reply. Arrow is never shown a line it could refuse: the text of its refusals holds the row.

    Raises:
        ValueError: If the first line is not a record: a customer's row must never pass for the header.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        if self._file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            self._file.seek(0)
        self.header = self._file.readline(LINE_BYTES_MAX)
        fields = fields_in(self.header)
        if fields is None:
            self._file.close()
            raise ValueError("the first line is not a record")
        self.left_out = 0
        """Lines so far that are no record by themselves."""
        self._records = self._kept(fields)
        # Arrow refuses a header without a line end, which only a unit without customers can have.
        self._pending = self.header.rstrip(b"\r\n") + b"\n"

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:  # the signature of the standard library is untyped here
        """Fill the buffer with what comes next; 0 at the end."""
        view = memoryview(buffer)
        if not self._pending:
            self._pending = b"".join(itertools.islice(self._records, LINES_AT_ONCE))
        size = min(len(view), len(self._pending))
        view[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _kept(self, fields: int) -> Iterator[bytes]:
        """The lines that are one record of `fields` fields; of a line too long, only a piece is ever in memory."""
        starts_line = True
        while piece := self._file.readline(LINE_BYTES_MAX):
            if starts_line and fields_in(piece) == fields:
                yield piece
            elif starts_line and piece.strip():
                self.left_out += 1
            starts_line = piece.endswith(b"\n")


def fields_in(line: bytes) -> int | None:
    """How many fields the record on this line has; None if the line is not one record, or only a piece of a line."""
    is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
    if not (is_whole and RECORD.fullmatch(line.rstrip(b"\r\n"))):
        return None
    return 1 + (QUOTED.sub(b"", line) if b'"' in line else line).count(b",")
