"""Which adapter reads a unit's source: the settings say."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fedseg.errors import SettingsError
from fedseg.node.sources.files import Files, files_of
from fedseg.node.sources.rows import Rows
from fedseg.node.sources.settings import SourceSettings, socket_path

_EXTRAS: Final = {"duckdb": "sql", "postgresql": "postgres", "spark": "spark"}
"""What installs what a source needs."""

if TYPE_CHECKING:
    from fedseg.node.sources.view import FeatureView


def customer_rows(home: Path, settings: SourceSettings) -> Rows:
    """The source with one row a customer: as it is stored, or as the unit's view makes it out of events.

    Raises:
        SettingsError: If a package is missing that this source needs, or the view cannot be used.
    """
    stored = stored_rows(home, settings)
    return stored if settings.view is None else _view(home, stored, settings)


def stored_rows(home: Path, settings: SourceSettings) -> Rows:
    """The source as it is stored: of events each.

    Args:
        home: The unit's home; paths are relative to it.
        settings: Where the source is.

    Raises:
        SettingsError: If a package is missing that this source needs.
    """
    if settings.table is None:
        return Files(home / settings.path, "csv" if settings.format == "csv" else "parquet")
    try:
        if settings.format == "postgresql":
            from fedseg.node.sources.postgres import PostgresTable  # noqa: PLC0415 (an extra)

            return PostgresTable(settings.path, settings.table)
        if settings.format == "spark":
            from fedseg.node.sources.spark import SparkTable  # noqa: PLC0415 (an extra)

            token = None if settings.token is None else home / settings.token
            return SparkTable(Path(socket_path(settings.path)), settings.table, token)
        from fedseg.node.sources.duckdb_file import DuckDBTable  # noqa: PLC0415 (an extra)

        return DuckDBTable(home / settings.path, settings.table)
    except ImportError as error:
        raise _missing(error, _EXTRAS[settings.format]) from error


def stored_files(home: Path, settings: SourceSettings) -> list[Path]:
    """The files that hold the source; none if a server does."""
    return [] if settings.format in {"postgresql", "spark"} else files_of(home / settings.path, settings.format)


def _view(home: Path, events: Rows, settings: SourceSettings) -> "FeatureView":
    assert settings.view is not None
    try:
        if settings.format == "spark":
            from fedseg.node.sources.spark import SparkTable  # noqa: PLC0415 (an extra)
            from fedseg.node.sources.spark_view import SparkView  # noqa: PLC0415 (an extra)

            assert isinstance(events, SparkTable)
            return SparkView(events, settings.subject, settings.view)
        from fedseg.node.sources.view import FeatureView, public_tables  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _missing(error, _EXTRAS.get(settings.format, "sql")) from error
    return FeatureView(events, settings.subject, settings.view, public_tables(home, settings.view))


def _missing(error: ImportError, extra: str) -> SettingsError:
    return SettingsError(
        "the data source cannot be used",
        why=f"the package {error.name or 'pandas'} is not installed",
        fix=f"pip install 'fedseg[{extra}]'",
    )
