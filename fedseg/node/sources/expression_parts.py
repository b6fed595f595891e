"""What expressions are made of: a piece of SQL with its type, and what may be put together with what."""

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, NoReturn

from sqlglot import exp

from fedseg.errors import ViewError
from fedseg.node.sources.cell_types import DIGITS_MAX, NOTHING, TRUTH, CellType, Kind, common

FIX: Final = "see what an expression may hold: docs/reference/feature-view.md"
_SHOWN: Final = 60
"""Characters of an expression that an error repeats."""


class Level(enum.IntEnum):
    """Of what an expression speaks."""

    CONSTANT = 0
    EVENT = 1
    """One event: before the events of a customer are put together."""
    CUSTOMER = 2
    """All events of one customer."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression in DuckDB's SQL, written by this module alone."""

    sql: str
    type: CellType
    level: Level


class Parts(ABC):
    """Checks on the parts of one expression."""

    def __init__(self, place: str) -> None:
        self.place = place
        """What errors call the expression."""

    @abstractmethod
    def node(self, node: exp.Expr) -> Compiled:
        """One node, if it is allowed.

        Raises:
            ViewError: If it is not.
        """

    def refuse(self, why: str, fix: str) -> NoReturn:
        """Say that the expression cannot be used."""
        raise refused(self.place, why, fix)

    def _event(self, node: exp.Expr) -> Compiled:
        one = self.node(node)
        if one.level is Level.CUSTOMER:
            self.refuse(f"an aggregate within an aggregate: {shown(node)}", FIX)
        return one

    def _truth(self, node: exp.Expr) -> Compiled:
        one = self.node(node)
        if one.type != TRUTH:
            self.refuse(f"not a condition but {one.type.kind.value}: {shown(node)}", "compare it with something")
        return one

    def _numbers(self, node: exp.Expr, *keys: str) -> list[Compiled]:
        parts = [self.node(node.args[key]) for key in keys or ("this", "expression")]
        wrong = [one for one in parts if one.type.kind not in {Kind.EXACT, Kind.REAL}]
        if wrong:
            self.refuse(f"{wrong[0].type.kind.value} where a number belongs: {shown(node)}", FIX)
        return parts

    def _common(self, node: exp.Expr, *parts: Compiled) -> CellType:
        kind: CellType | None = NOTHING
        for part in parts:
            kind = None if kind is None else common(kind, part.type)
        if kind is None or kind == NOTHING:
            kinds = " and ".join(sorted({part.type.kind.value for part in parts}))
            self.refuse(f"{kinds} cannot be put together: {shown(node)}", "write a date as date '2011-12-10'")
        return kind

    def _exact(self, digits: int, decimals: int) -> CellType:
        if digits > DIGITS_MAX:
            self.refuse(
                f"a number could have {digits} digits, and {DIGITS_MAX} are the most",
                "declare columns with fewer digits, or cast first: cast(a * b as decimal(18,2))",
            )
        return CellType(Kind.EXACT, digits, decimals)

    def _joined(self, sql: str, kind: CellType, *parts: Compiled) -> Compiled:
        levels = {part.level for part in parts}
        if levels >= {Level.EVENT, Level.CUSTOMER}:
            self.refuse("a column stands outside of an aggregate", "put it inside: max(x) - min(x), not max(x) - x")
        return Compiled(sql, kind, max(levels))


def as_type(one: Compiled, kind: CellType) -> str:
    """The expression in a type that holds all its values."""
    return one.sql if one.type in {kind, NOTHING} else f"CAST({one.sql} AS {kind.sql})"


def kind_of(node: exp.Expr) -> str:
    """What errors call a node."""
    return {"Anonymous": f"the function {node.name}"}.get(type(node).__name__, type(node).__name__.lower())


def shown(node: exp.Expr) -> str:
    """The node as errors repeat it: the unit's own settings, and not too long."""
    text = node.sql(dialect="duckdb")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def refused(place: str, why: str, fix: str) -> ViewError:
    """The error about an expression at this place."""
    return ViewError(f"{place} of the source's view cannot be used", why=why, fix=fix)
