"""The settings file: TOML whose keys are names of options, as defaults for the commands that have these options.

A key on top holds for every command that has the option, a table for the command it names. What names no option and no
command is refused: a setting that is silently ignored is worse than none.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from fedseg.errors import SettingsError

NEVER_IN_A_FILE = {"yes"}
"""Options that answer a question: a forgotten file must not approve anything."""


def read_settings(path: Path, command: click.Command) -> dict[str, Any]:
    """Click's default map for `command` from the settings file at `path`.

    Raises:
        SettingsError: If the file cannot be read, or a key names no option or command.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(path, str(error)) from error
    try:
        return _defaults(command, values, {})
    except KeyError as error:
        key = error.args[0]
        why = "is for you to answer each time" if key in NEVER_IN_A_FILE else "is no option or command of fedseg here"
        raise _refused(path, f"{key!r} {why}") from error


def _defaults(command: click.Command, values: Mapping[str, Any], inherited: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the names of the command's parameters; `inherited` are those of the tables around it."""
    if not isinstance(command, click.Group):
        names = {key: name for key, name in _parameters(command).items() if key not in NEVER_IN_A_FILE}
        _require_known(values, names)
        return {names[key]: value for key, value in {**inherited, **values}.items() if key in names}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    _require_known(tables, command.commands)
    own = {key: value for key, value in values.items() if key not in tables}
    _require_known(own, _below(command))
    shared = {**inherited, **own}
    return {name: _defaults(inner, tables.get(name, {}), shared) for name, inner in command.commands.items()}


def _parameters(command: click.Command) -> dict[str, str]:
    """Parameter names by option name: `--dry-run` is the option "dry-run"."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {name.removeprefix("--"): one.name or name for one in options for name in one.opts if name.startswith("--")}


def _below(command: click.Command) -> set[str]:
    """Names of all options of the command or of any command below it."""
    if isinstance(command, click.Group):
        return {name for inner in command.commands.values() for name in _below(inner)}
    return set(_parameters(command)) - NEVER_IN_A_FILE


def _require_known(found: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise KeyError(unknown[0])


def _refused(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"the settings file {path} cannot be used", why=why, fix="correct it, or name another with --config"
    )
