"""Names and types of a table's columns, from a file. Never reads a value: of a CSV file the first line, of Parquet the
schema, and nothing behind them.
"""

import csv
import enum
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedseg.errors import DataError

HEADER_BYTES_MAX = 2**17
"""A longer first line is none that a unit would read."""


class Holds(enum.Enum):
    """What a column holds, as far as its type says."""

    NUMBER = "number"
    TRUTH = "truth"
    TEXT = "text"
    TIME = "time"
    NESTED = "nested"
    UNKNOWN = "unknown"
    """A CSV file does not say."""


@dataclass(frozen=True, slots=True)
class SchemaColumn:
    """One column of a table."""

    name: str
    holds: Holds = Holds.UNKNOWN


def read_schema(path: Path) -> tuple[SchemaColumn, ...]:
    """The columns of a `.csv` or `.parquet` file, or those that a `.toml` or `.json` file lists as `name = "type"`.

    Raises:
        DataError: If the file is of another kind or cannot be read so, or names no column, or one of them twice.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _unreadable(path, f"its name ends in none of {', '.join(_READERS)}")
    try:
        columns = tuple(reader(path))
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise _unreadable(path, _cause(error)) from error
    names = [column.name for column in columns]
    if not names or len(set(names)) != len(names):
        raise _unreadable(path, "each column needs a name of its own, and there must be one")
    return columns


def holds(type_name: str) -> Holds:
    """What a column of this type holds; the types of Arrow and of the common databases are known by name.

    >>> holds("varchar(20)"), holds("decimal128(10, 2)"), holds("dictionary<values=string, indices=int32, ordered=0>")
    (<Holds.TEXT: 'text'>, <Holds.NUMBER: 'number'>, <Holds.TEXT: 'text'>)
    """
    plain = type_name.strip().lower().removeprefix("dictionary<values=")
    return next((meaning for meaning, names in _TYPES if re.match(rf"(?:{names})(?![a-z])", plain)), Holds.UNKNOWN)


_TYPES = (
    (Holds.TIME, r"date\d*|datetime\d*|timestamp\w*|time\d*|interval|duration"),
    (Holds.TRUTH, r"bool|boolean|truth|logical|bit"),
    (
        Holds.NUMBER,
        r"u?(?:tiny|small|medium|big)?int(?:eger)?\d*|(?:half)?float\d*|double|decimal\d*|numeric|number|real|money",
    ),
    (
        Holds.TEXT,
        r"(?:large_|long|medium|fixed_size_)?(?:string|utf8|text|binary)(?:_view)?|n?(?:var)?char(?:acter)?|bytes|clob|enum",
    ),
    (Holds.NESTED, r"(?:large_|fixed_size_)?list(?:_view)?|struct|map|array|json\w*"),
)

_NO_NAME = re.compile(r"[\s\d.,:;/+%()-]*|.*@.*")
"""Numbers, dates and addresses are values, no names of columns."""


def _csv_header(path: Path) -> Iterable[SchemaColumn]:
    with path.open("rb", buffering=0) as file:  # unbuffered, so that the rows are not even fetched
        line = file.readline(HEADER_BYTES_MAX)
    names = next(csv.reader([line.decode("utf-8-sig")], strict=True), [])
    if any(_NO_NAME.fullmatch(name) for name in names):
        raise ValueError("the first line does not look like names of columns")
    return [SchemaColumn(name) for name in names]


def _parquet_schema(path: Path) -> Iterable[SchemaColumn]:
    return [SchemaColumn(field.name, holds(str(field.type))) for field in pq.read_schema(path)]


def _toml_list(path: Path) -> Iterable[SchemaColumn]:
    return _listed(tomllib.loads(path.read_text(encoding="utf-8")))


def _json_list(path: Path) -> Iterable[SchemaColumn]:
    return _listed(json.loads(path.read_text(encoding="utf-8")))


def _listed(document: object) -> Iterable[SchemaColumn]:
    if not isinstance(document, Mapping) or not all(isinstance(one, str) for one in document.values()):
        raise ValueError('it must list columns as name = "type"')
    return [SchemaColumn(str(name), holds(type_name)) for name, type_name in document.items()]


_READERS: Mapping[str, Callable[[Path], Iterable[SchemaColumn]]] = {
    ".csv": _csv_header,
    ".parquet": _parquet_schema,
    ".toml": _toml_list,
    ".json": _json_list,
}


def _cause(error: Exception) -> str:
    """Never the text of a parser's complaint: it may quote the file."""
    if isinstance(error, OSError):
        return error.strerror or "it is not readable"
    return str(error) if type(error) is ValueError else "it is not what its name says"


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"the columns of {path.name} cannot be read",
        why=why,
        fix='give a CSV or Parquet file, or a TOML or JSON file of name = "type": fedseg plan init TABLE_SCHEMA',
    )
