"""Feature expressions: read by a SQL parser, held against a list of what is allowed, and written anew by us.

Not a character of the settings' text reaches the database engine: names become `c0`, `c1`, ..., literals are written
anew, and what is not on the list is refused. The list holds nothing by which one customer could change another's
features (no window, sub-query, join, clock or chance), nothing whose result depends on the order of rows (no
floating-point sum, no "first"), and nothing that can fail over a row: digits are counted beforehand, so no number
overflows.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from fedseg.node.sources.cell_types import (
    COUNT,
    COUNT_DIGITS,
    DATE,
    DAYS,
    DIGITS_MAX,
    NOTHING,
    REAL,
    TEXT,
    TRUTH,
    CellType,
    Kind,
    common,
    parse_cell_type,
)
from fedseg.node.sources.expression_parts import FIX, Compiled, Level, Parts, as_type, kind_of, refused, shown

LENGTH_MAX: Final = 2000
"""Characters of an expression."""
_DIGITS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,17})?")


def compile_feature(name: str, text: str, columns: Mapping[str, CellType]) -> Compiled:
    """The expression of a feature.

    Args:
        name: The feature's, for errors.
        text: As in the settings.
        columns: What an event holds, in the order of `c0`, `c1`, ...

    Raises:
        ViewError: If it holds anything that is not on the list, or does not say one value a customer.
    """
    compiled = _Compiler(f"feature {name}", columns).compile(text)
    if compiled.level is not Level.CUSTOMER:
        raise refused(
            f"feature {name}",
            "it does not put a customer's events together",
            "write an aggregate, such as count(*), sum(x), min(x), max(x), avg(x) or count(distinct x)",
        )
    return compiled


def compile_condition(text: str, columns: Mapping[str, CellType]) -> Compiled:
    """The condition under which an event counts.

    Raises:
        ViewError: If it holds anything that is not on the list, or is no condition on one event.
    """
    compiled = _Compiler("the condition where", columns).compile(text)
    if compiled.level is Level.CUSTOMER or compiled.type != TRUTH:
        raise refused("the condition where", "it is no yes or no about one event", "compare columns with literals")
    return compiled


class _Compiler(Parts):
    """One expression, from its tree to SQL."""

    def __init__(self, place: str, columns: Mapping[str, CellType]) -> None:
        super().__init__(place)
        self.columns = columns
        self.numbers = {name: f"c{number}" for number, name in enumerate(columns)}

    def compile(self, text: str) -> Compiled:
        """The whole expression.

        Raises:
            ViewError: If it holds anything that is not on the list.
        """
        if len(text) > LENGTH_MAX:
            self.refuse(f"it is longer than {LENGTH_MAX} characters", "write several features")
        try:
            return self.node(self._tree(text))
        except (SqlglotError, RecursionError) as error:
            raise refused(
                self.place, "it cannot be read as an expression", "check its parentheses and quotes"
            ) from error

    def _tree(self, text: str) -> exp.Expr:
        statements = sqlglot.parse(text, dialect="duckdb")
        if len(statements) != 1 or statements[0] is None:
            self.refuse("it is not one expression", "write one expression, without a semicolon")
        if any(token.comments for token in sqlglot.tokenize(text, dialect="duckdb")):
            self.refuse("it holds a comment", "write comments into node.toml, after a #")
        # The parser lets some operators stand without what they are applied to, such as @ for an absolute value.
        if any(part.error_messages() for part in statements[0].walk()):
            self.refuse("something is missing in it", "write what each operator is applied to")
        return statements[0]

    def node(self, node: exp.Expr) -> Compiled:
        """One node, if it is on the list and says nothing beside what the list foresees."""
        return self._writer(node)(self, node)

    def _writer(self, node: exp.Expr) -> "_Writer":
        known = _NODES.get(type(node))
        if known is None:
            self.refuse(f"{kind_of(node)} is not allowed: {shown(node)}", FIX)
        used, write = known
        if any(value for key, value in node.args.items() if key not in used):
            self.refuse(f"{kind_of(node)} is not allowed in this form: {shown(node)}", FIX)
        return write

    # Leaves

    def column(self, node: exp.Expr) -> Compiled:
        name = node.name
        if name not in self.columns:
            self.refuse(
                f"the events have no column {name!r}", "name a column of [source.view.columns], spelled as it is there"
            )
        return Compiled(self.numbers[name], self.columns[name], Level.EVENT)

    def literal(self, node: exp.Expr) -> Compiled:
        text = str(node.this)
        if node.is_string:
            if "\0" in text:
                self.refuse("a text holds a zero byte", "leave it out")
            return Compiled("'" + text.replace("'", "''") + "'", TEXT, Level.CONSTANT)
        if not _DIGITS.fullmatch(text):
            self.refuse(f"{text} is no plain number", "write digits, with a point before decimals")
        whole, _, decimals = text.partition(".")
        kind = CellType(Kind.EXACT, len(whole) + len(decimals), len(decimals))
        return Compiled(f"CAST('{text}' AS {kind.sql})", kind, Level.CONSTANT)

    def boolean(self, node: exp.Expr) -> Compiled:
        return Compiled("TRUE" if node.this else "FALSE", TRUTH, Level.CONSTANT)

    def null(self, _: exp.Expr) -> Compiled:
        return Compiled("NULL", NOTHING, Level.CONSTANT)

    def paren(self, node: exp.Expr) -> Compiled:
        return self.node(node.this)

    # Arithmetic

    def plus(self, node: exp.Expr) -> Compiled:
        return self._sum(node, "+")

    def minus(self, node: exp.Expr) -> Compiled:
        left, right = self.node(node.this), self.node(node.expression)
        if left.type == right.type == DATE:
            return self._days(right, left)
        return self._sum(node, "-")

    def _sum(self, node: exp.Expr, sign: str) -> Compiled:
        left, right = self._numbers(node)
        kind = common(left.type, right.type)
        if kind == REAL:
            return self._joined(f"({as_type(left, REAL)} {sign} {as_type(right, REAL)})", REAL, left, right)
        wider = self._exact((kind.digits if kind else DIGITS_MAX) + 1, kind.decimals if kind else 0)
        return self._joined(
            f"CAST({as_type(left, wider)} {sign} {as_type(right, wider)} AS {wider.sql})", wider, left, right
        )

    def times(self, node: exp.Expr) -> Compiled:
        left, right = self._numbers(node)
        if REAL in {left.type, right.type}:
            return self._joined(f"({as_type(left, REAL)} * {as_type(right, REAL)})", REAL, left, right)
        kind = self._exact(left.type.digits + right.type.digits, left.type.decimals + right.type.decimals)
        # The engine gives a product of small numbers no more digits than a machine word has: both are made wide first.
        one, other = (
            f"CAST({part.sql} AS {CellType(Kind.EXACT, kind.digits, part.type.decimals).sql})" for part in (left, right)
        )
        return self._joined(f"CAST(({one} * {other}) AS {kind.sql})", kind, left, right)

    def divided(self, node: exp.Expr) -> Compiled:
        """A quotient is no exact number, so it stands outside of aggregates alone; by zero it is missing."""
        left, right = self._numbers(node)
        if Level.EVENT in {left.level, right.level}:
            self.refuse(
                f"a division within one event: {shown(node)}", "divide sums, such as sum(a) / sum(b), or multiply"
            )
        return self._joined(f"({as_type(left, REAL)} / NULLIF({as_type(right, REAL)}, 0))", REAL, left, right)

    def negated(self, node: exp.Expr) -> Compiled:
        (one,) = self._numbers(node, "this")
        return Compiled(f"(-{one.sql})", one.type, one.level)

    def absolute(self, node: exp.Expr) -> Compiled:
        (one,) = self._numbers(node, "this")
        return Compiled(f"abs({one.sql})", one.type, one.level)

    def date_difference(self, node: exp.Expr) -> Compiled:
        if node.args["unit"].name.upper() != "DAY":
            self.refuse(f"dates are counted in days: {shown(node)}", "write date_diff('day', earlier, later)")
        later, earlier = self.node(node.this), self.node(node.expression)
        if later.type != DATE or earlier.type != DATE:
            self.refuse(f"not a difference of dates: {shown(node)}", "write date '2011-12-10' for a fixed date")
        return self._days(earlier, later)

    def _days(self, earlier: Compiled, later: Compiled) -> Compiled:
        sql = f"TRY_CAST(date_diff('day', {earlier.sql}, {later.sql}) AS {DAYS.sql})"
        return self._joined(sql, DAYS, earlier, later)

    def cast(self, node: exp.Expr) -> Compiled:
        inner, wanted = node.this, node.args["to"]
        if wanted.this is exp.DataType.Type.DATE and isinstance(inner, exp.Literal) and inner.is_string:
            return self._date(inner.name)
        sizes = ",".join(size.name for size in wanted.expressions)
        try:
            kind = parse_cell_type(_CASTS.get(wanted.this, "").format(sizes))
        except ValueError:
            self.refuse(f"no cast to this type: {shown(node)}", "cast to integer or decimal(digits,decimals)")
        one = self.node(inner)
        if one.type.kind is not Kind.EXACT:
            self.refuse(
                f"only exact numbers are cast: {shown(node)}", "say in [source.view.columns] what the column holds"
            )
        return Compiled(f"TRY_CAST({one.sql} AS {kind.sql})", kind, one.level)

    def _date(self, text: str) -> Compiled:
        try:
            day = dt.date.fromisoformat(text)
        except ValueError:
            self.refuse(f"{text!r} is no date", "write date '2011-12-10'")
        return Compiled(f"DATE '{day.isoformat()}'", DATE, Level.CONSTANT)

    # Conditions

    def compared(self, node: exp.Expr) -> Compiled:
        left, right = self.node(node.this), self.node(node.expression)
        kind = self._common(node, left, right)
        sql = f"({as_type(left, kind)} {_COMPARISONS[type(node)]} {as_type(right, kind)})"
        return self._joined(sql, TRUTH, left, right)

    def between(self, node: exp.Expr) -> Compiled:
        parts = [self.node(node.args[key]) for key in ("this", "low", "high")]
        kind = self._common(node, *parts)
        one, low, high = (as_type(part, kind) for part in parts)
        return self._joined(f"({one} BETWEEN {low} AND {high})", TRUTH, *parts)

    def among(self, node: exp.Expr) -> Compiled:
        one, *others = [self.node(part) for part in (node.this, *node.expressions)]
        kind = self._common(node, one, *others)
        choices = ", ".join(as_type(other, kind) for other in others)
        return self._joined(f"({as_type(one, kind)} IN ({choices}))", TRUTH, one, *others)

    def is_null(self, node: exp.Expr) -> Compiled:
        if not isinstance(node.expression, exp.Null):
            self.refuse(f"only IS NULL and IS NOT NULL: {shown(node)}", "compare with = instead")
        one = self.node(node.this)
        return Compiled(f"({one.sql} IS NULL)", TRUTH, one.level)

    def like(self, node: exp.Expr) -> Compiled:
        one, pattern = self.node(node.this), self.node(node.expression)
        if one.type != TEXT or not isinstance(node.expression, exp.Literal):
            self.refuse(f"LIKE compares a text with a literal: {shown(node)}", "write name like 'C%'")
        return Compiled(f"({one.sql} LIKE {pattern.sql})", TRUTH, one.level)

    def negation(self, node: exp.Expr) -> Compiled:
        one = self._truth(node.this)
        return Compiled(f"(NOT {one.sql})", TRUTH, one.level)

    def both(self, node: exp.Expr) -> Compiled:
        return self._logic(node, "AND")

    def either(self, node: exp.Expr) -> Compiled:
        return self._logic(node, "OR")

    def _logic(self, node: exp.Expr, word: str) -> Compiled:
        left, right = self._truth(node.this), self._truth(node.expression)
        return self._joined(f"({left.sql} {word} {right.sql})", TRUTH, left, right)

    # Choices

    def case(self, node: exp.Expr) -> Compiled:
        otherwise = node.args.get("default")
        conditions = [self._truth(branch.this) for branch in node.args["ifs"]]
        values = [self.node(branch.args["true"]) for branch in node.args["ifs"]]
        last = self.null(node) if otherwise is None else self.node(otherwise)
        kind = self._common(node, *values, last)
        cases = zip(conditions, values, strict=True)
        whens = " ".join(f"WHEN {condition.sql} THEN {as_type(value, kind)}" for condition, value in cases)
        return self._joined(f"(CASE {whens} ELSE {as_type(last, kind)} END)", kind, *conditions, *values, last)

    def either_or(self, node: exp.Expr) -> Compiled:
        return self.case(exp.Case(ifs=[node], default=node.args.get("false")))

    def coalesced(self, node: exp.Expr) -> Compiled:
        return self._choice(node, "coalesce", node.this, *node.expressions)

    def greatest(self, node: exp.Expr) -> Compiled:
        return self._choice(node, "greatest", node.this, *node.expressions)

    def least(self, node: exp.Expr) -> Compiled:
        return self._choice(node, "least", node.this, *node.expressions)

    def null_if(self, node: exp.Expr) -> Compiled:
        return self._choice(node, "nullif", node.this, node.expression)

    def _choice(self, node: exp.Expr, function: str, *parts: exp.Expr) -> Compiled:
        compiled = [self.node(part) for part in parts]
        kind = self._common(node, *compiled)
        return self._joined(f"{function}({', '.join(as_type(one, kind) for one in compiled)})", kind, *compiled)

    # Aggregates

    def filtered(self, node: exp.Expr) -> Compiled:
        self._writer(node.this)
        write = _AGGREGATES.get(type(node.this))
        if write is None:
            self.refuse(f"a filter belongs to an aggregate: {shown(node)}", "write sum(x) filter (where y > 0)")
        condition = self._truth(node.expression.this)
        if condition.level is Level.CUSTOMER:
            self.refuse(f"an aggregate within an aggregate: {shown(node)}", FIX)
        return write(self, node.this, f" FILTER (WHERE {condition.sql})")

    def count(self, node: exp.Expr, suffix: str = "") -> Compiled:
        inner = node.this
        if isinstance(inner, exp.Star):
            what = "*"
        elif isinstance(inner, exp.Distinct):
            if len(inner.expressions) != 1 or inner.args.get("on"):
                self.refuse(f"one column is counted at a time: {shown(node)}", "write count(distinct x)")
            what = f"DISTINCT {self._event(inner.expressions[0]).sql}"
        else:
            what = self._event(inner).sql
        return Compiled(f"TRY_CAST(count({what}){suffix} AS {COUNT.sql})", COUNT, Level.CUSTOMER)

    def total(self, node: exp.Expr, suffix: str = "") -> Compiled:
        one = self._event(node.this)
        if one.type.kind is not Kind.EXACT:
            self.refuse(f"only numbers are added up: {shown(node)}", "write sum(case when ... then 1 else 0 end)")
        kind = self._exact(one.type.digits + COUNT_DIGITS, one.type.decimals)
        return Compiled(f"TRY_CAST(sum({one.sql}){suffix} AS {kind.sql})", kind, Level.CUSTOMER)

    def mean(self, node: exp.Expr, suffix: str = "") -> Compiled:
        total, count = self.total(node, suffix), self.count(node, suffix)
        return Compiled(f"({as_type(total, REAL)} / NULLIF({as_type(count, REAL)}, 0))", REAL, Level.CUSTOMER)

    def smallest(self, node: exp.Expr, suffix: str = "") -> Compiled:
        return self._extreme(node, "min", suffix)

    def largest(self, node: exp.Expr, suffix: str = "") -> Compiled:
        return self._extreme(node, "max", suffix)

    def _extreme(self, node: exp.Expr, function: str, suffix: str) -> Compiled:
        one = self._event(node.this)
        return Compiled(f"{function}({one.sql}){suffix}", one.type, Level.CUSTOMER)


_Writer = Callable[[_Compiler, Any], Compiled]
_AGGREGATES: Final[dict[type[exp.Expr], Callable[[_Compiler, Any, str], Compiled]]] = {
    exp.Count: _Compiler.count,
    exp.Sum: _Compiler.total,
    exp.Avg: _Compiler.mean,
    exp.Min: _Compiler.smallest,
    exp.Max: _Compiler.largest,
}
_COMPARISONS: Final[dict[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
_CASTS: Final = {
    exp.DataType.Type.INT: "integer",
    exp.DataType.Type.BIGINT: "integer",
    exp.DataType.Type.DECIMAL: "decimal({})",
}
_PAIR: Final = ("this", "expression")
_NODES: Final[dict[type[exp.Expr], tuple[Sequence[str], _Writer]]] = {
    exp.Column: (("this",), _Compiler.column),
    exp.Literal: (("this", "is_string"), _Compiler.literal),
    exp.Boolean: (("this",), _Compiler.boolean),
    exp.Null: ((), _Compiler.null),
    exp.Paren: (("this",), _Compiler.paren),
    exp.Add: (_PAIR, _Compiler.plus),
    exp.Sub: (_PAIR, _Compiler.minus),
    exp.Mul: (_PAIR, _Compiler.times),
    exp.Div: (_PAIR, _Compiler.divided),
    exp.Neg: (("this",), _Compiler.negated),
    exp.Abs: (("this",), _Compiler.absolute),
    exp.DateDiff: ((*_PAIR, "unit", "date_part_boundary"), _Compiler.date_difference),
    exp.Cast: (("this", "to"), _Compiler.cast),
    **dict.fromkeys(_COMPARISONS, (_PAIR, _Compiler.compared)),
    exp.Between: (("this", "low", "high"), _Compiler.between),
    exp.In: (("this", "expressions"), _Compiler.among),
    exp.Is: (_PAIR, _Compiler.is_null),
    exp.Like: (_PAIR, _Compiler.like),
    exp.Not: (("this",), _Compiler.negation),
    exp.And: (_PAIR, _Compiler.both),
    exp.Or: (_PAIR, _Compiler.either),
    exp.Case: (("ifs", "default"), _Compiler.case),
    exp.If: (("this", "true", "false"), _Compiler.either_or),
    exp.Coalesce: (("this", "expressions"), _Compiler.coalesced),
    exp.Greatest: (("this", "expressions", "ignore_nulls"), _Compiler.greatest),
    exp.Least: (("this", "expressions", "ignore_nulls"), _Compiler.least),
    exp.Nullif: (_PAIR, _Compiler.null_if),
    exp.Filter: (_PAIR, _Compiler.filtered),
    exp.Count: (("this", "big_int"), _Compiler.count),
    exp.Sum: (("this",), _Compiler.total),
    exp.Avg: (("this",), _Compiler.mean),
    exp.Min: (("this",), _Compiler.smallest),
    exp.Max: (("this",), _Compiler.largest),
}
"""Everything that is allowed: the parts a node may have, and how it is written. What is not here is refused."""
