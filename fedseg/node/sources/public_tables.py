"""Public tables in which a view looks up what events hold: a postcode's region, a product's category.

A look-up is a function of one cell. It gives each event one value more, so no row multiplies and none is lost; and it
depends on no other row, so no customer changes another's features. What it answers stands in a file whose SHA-256 every
unit has agreed to with the plan: it cannot be made of one unit's customers behind the others' backs.
"""

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from fedseg.errors import DataError, ViewError
from fedseg.node.sources.cell_types import CellType
from fedseg.node.sources.event_cells import CELLS, UNREAD, event_cells
from fedseg.plan import Plan

TABLE_BYTES_MAX: Final = 16 * 2**20
TABLE_ROWS_MAX: Final = 200_000


class LookupSettings(BaseModel):
    """A column that events do not have, and that a public table says of one they have."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    table: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """What the plan calls the table."""
    path: str
    """The table as a CSV file with a header, relative to the home; its first column is what is looked up."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the file, as the plan states it."""
    key: str
    """The column of an event that is looked up; a text."""
    column: str
    """The table's column that answers."""
    holds: str = "text"
    """What the answer is, as of a column of events."""


@dataclass(frozen=True, slots=True, eq=False)
class PublicTable:
    """What a column of a public table says of each key."""

    keys: pa.Array
    """Each once, as texts."""
    answers: pa.Array
    """One a key, as cells of events."""

    def look_up(self, cells: pa.Array) -> pa.Array:
        """The answer for each cell, in their order; null where the cell is missing, or the table does not have it."""
        return self.answers.take(pc.index_in(cells, value_set=self.keys))


def read_public_table(path: Path, settings: LookupSettings, kind: CellType) -> PublicTable:
    """The table in a file.

    Args:
        path: The file.
        settings: What is looked up in it.
        kind: What the answers are.

    Raises:
        DataError: If it cannot be read, is another file than was agreed, too large, or no table with unique keys. All
            of it is public, so the error may say where.
    """
    content = _content(path, settings)
    try:
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise _refused(settings, "it is no CSV file in UTF-8 with a header") from error
    if header[1:].count(settings.column) != 1:
        raise _refused(settings, f"it has no column {settings.column!r} after its first one")
    if len(rows) > TABLE_ROWS_MAX:
        raise _refused(settings, f"it has more than {TABLE_ROWS_MAX:,} rows")
    place = header.index(settings.column, 1)
    keys: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header) or not row[0] or row[0] in keys:
            raise _refused(settings, f"row {number} has no key of its own, or another number of fields than the header")
        keys[row[0]] = row[place]
    answers = event_cells(pa.array(keys.values(), CELLS), kind.kind)
    if pc.any(pc.equal(answers, UNREAD)).as_py():
        raise _refused(settings, f"an answer is something else than {settings.holds}")
    return PublicTable(pa.array(keys, CELLS), answers)


def require_named(lookups: Mapping[str, LookupSettings], plan: Plan) -> None:
    """Refuse to count for a plan that does not name each table that a view looks up in. Depends on no row.

    Raises:
        ViewError: If it does not, or names another file.
    """
    named = {one.name: one.sha256 for one in plan.tables}
    for name, one in lookups.items():
        if named.get(one.table) != one.sha256:
            raise ViewError(
                f"the view looks up {name} in {one.table}, which is no public table of the plan {plan.name}",
                why="it names another file by this name" if one.table in named else "it names no such table",
                fix="have the plan name it under [[tables]], with its sha256; or take it out of [source.view.lookups]",
            )


def _content(path: Path, settings: LookupSettings) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(TABLE_BYTES_MAX + 1)
    except OSError as error:
        raise _refused(settings, f"{path}: {error.strerror or 'it cannot be read'}") from error
    if len(content) > TABLE_BYTES_MAX:
        raise _refused(settings, f"it has more than {TABLE_BYTES_MAX // 2**20} MiB")
    found = hashlib.sha256(content).hexdigest()
    if found != settings.sha256:
        raise _refused(settings, f"the sha256 of the file is {found}, and node.toml says {settings.sha256}")
    return content


def _refused(settings: LookupSettings, why: str) -> DataError:
    return DataError(
        f"the public table {settings.table} cannot be used",
        why=why,
        fix=f"put the file that the plan names at {settings.path}, and correct [source.view.lookups] in node.toml",
    )
