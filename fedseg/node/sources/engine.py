"""What DuckDB may not do inside a unit: no files but its own, no network, no extensions, no disk."""

from typing import Final

CONFINED: Final = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "preserve_insertion_order": "false",
    "lock_configuration": "true",
}
"""What the engine may not do; it cannot be changed again."""
