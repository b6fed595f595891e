"""Which mutants a module has: small changes of its syntax tree, each of which some test should notice. Pure.

A mutant changes one place: a comparison, a condition taken as true or false, a part of a condition dropped, an
operator, a number, a text, a bound of a slice, what is returned, what is caught, a call or a `raise` left out.

Three things are no mutants, because no promise hangs on them:

- documentation, type annotations (but for the limits that `Field` and such state in them), decorators, `__all__`,
  `__slots__`, and `__repr__`;
- words for people: text that a call makes an error of (its name, or what it returns, ends in Error), that `accused`,
  `_accuse`, `Disagreement` or `remarks.append` takes, that is called `why` or `words`, that `in_words` gives, what the
  table of faults says of each but its code, and what a certificate is said to prove;
- operators beside literal text (`"a" + b`) and between types (`A | B`), which cannot run otherwise.
"""

import ast
import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

Put = Callable[[ast.AST], None]
"""Puts a node in the place of another."""

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_PAIRS = (
    ("min", "max"),
    ("any", "all"),
    ("ceil", "floor"),
    ("ROUND_CEILING", "ROUND_FLOOR"),
    ("startswith", "endswith"),
    ("removeprefix", "removesuffix"),
    ("partition", "rpartition"),
)
_NAMES = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_WORD_MAKERS = {"accused", "_accuse", "Disagreement"}
_WORDS = {"why", "words", "PROVES", "CANNOT_PROVE", "_FIX", "_KEEP", "_AGAIN", "_OFFICER", "_KEY_HOLDER"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a module."""

    number: int
    """Its place among the module's mutants."""
    line: int
    function: str
    """The innermost class and function it is in; empty at the top of the module."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _Site:
    line: int
    function: str
    before: str
    after: str
    apply: Callable[[], None]


def mutants_of(source: str, error_makers: Collection[str] = ()) -> list[Mutant]:
    """All mutants of a module, in a fixed order.

    Args:
        source: Its text.
        error_makers: Names of functions that make errors, beside those whose names say so.
    """
    sites = _Sites(frozenset(error_makers)).of(ast.parse(source))
    return [Mutant(number, site.line, site.function, site.before, site.after) for number, site in enumerate(sites)]


def mutated(source: str, number: int, error_makers: Collection[str] = ()) -> ast.Module:
    """The module with one of `mutants_of` its mutants in place."""
    tree = ast.parse(source)
    list(_Sites(frozenset(error_makers)).of(tree))[number].apply()
    return ast.fix_missing_locations(tree)


def error_makers_of(source: str) -> set[str]:
    """The functions of a module that return an error, by their annotation."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if _makes_errors(node)}


class _Sites:
    """A walk over a module in the order of its text."""

    def __init__(self, error_makers: frozenset[str]) -> None:
        self._known = error_makers
        self.makers = _WORD_MAKERS

    def of(self, tree: ast.Module) -> Iterator[_Site]:
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _makes_errors(node)}
        taken = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        self.makers = _WORD_MAKERS | own | (self._known & taken)
        yield from self._inside(tree, "")

    def _inside(self, node: ast.AST, function: str) -> Iterator[_Site]:
        """The sites in the children of a node."""
        for name, value in ast.iter_fields(node):
            if self._is_skipped(node, name, value):
                continue
            if isinstance(value, list):
                for place, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        yield from self._at(child, partial(value.__setitem__, place), node, function)
            elif isinstance(value, ast.AST):
                yield from self._at(value, partial(setattr, node, name), node, function)

    def _at(self, node: ast.AST, put: Put, parent: ast.AST, function: str) -> Iterator[_Site]:
        """The sites at a node and in it."""
        if self._is_words(node, parent) or (function == "Fault" and _is_told(node, parent)):
            return
        inner = function
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = f"{function}.{node.name}" if function else node.name
        for after in _changes(node, parent):
            yield _Site(_line(node), inner, _text(node), _text(after), partial(put, after))
        yield from self._inside(node, inner)

    def _is_skipped(self, node: ast.AST, name: str, value: object) -> bool:
        if name in {"annotation", "returns"}:
            # A type; but the limits that Pydantic reads in it are rules.
            return not (isinstance(value, ast.AST) and any(isinstance(one, ast.Call) for one in ast.walk(value)))
        return name in {"decorator_list", "format_spec", "keywords"} and not isinstance(node, ast.Call)

    def _is_words(self, node: ast.AST, parent: ast.AST) -> bool:
        """Whether a node is no code, or speaks to people alone."""
        match node:
            case ast.Expr(value=ast.Constant()) | ast.FunctionDef(name="__repr__" | "in_words"):
                return True
            case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
                return True
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                return name in {"__all__", "__slots__", *_WORDS}
            case ast.BinOp():
                return _is_union(node)
        if isinstance(parent, ast.keyword):
            return parent.arg in {"why", "fix"}
        return isinstance(parent, ast.Call) and node is not parent.func and self._is_told_by(parent, node)

    def _is_told_by(self, call: ast.Call, argument: ast.AST) -> bool:
        """Whether an argument of a call is text for people, or a type for a checker."""
        name = _called(call)
        if name in {"cast", "TypeVar"}:
            return isinstance(argument, ast.Constant)
        is_maker = name.endswith("Error") or name in self.makers or ast.unparse(call.func) == "self.remarks.append"
        return is_maker and not isinstance(argument, ast.keyword) and _holds_text(argument)


def _changes(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    yield from _condition_changes(node, parent)
    if isinstance(node, ast.expr):
        yield from _operator_changes(node)
        yield from _value_changes(node)
    elif not (isinstance(node, ast.Raise) and isinstance(parent, ast.If)):
        # What is raised on a condition alone is left out where the condition is False.
        yield from _statement_changes(node)


def _operator_changes(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                for other in _COMPARISONS[type(op)]:
                    yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for place in range(len(node.values)):
                rest = [*node.values[:place], *node.values[place + 1 :]]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.BinOp() if not (_holds_text(node.left) or _holds_text(node.right)):
            yield _with(node, op=_OPERATORS[type(node.op)]())


def _value_changes(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.Constant(value=str(text)):
            yield ast.Constant("XX" + text)
        case ast.Constant(value=bytes(data)):
            yield ast.Constant(b"XX" + data)
        case ast.Name(id=name) if name in _NAMES:
            yield ast.Name(_NAMES[name], node.ctx)
        case ast.Attribute(attr=name) if name in _NAMES:
            yield _with(node, attr=_NAMES[name])
        case ast.Slice():
            yield from (_with(node, **{bound: None}) for bound in ("lower", "upper", "step") if getattr(node, bound))


def _statement_changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.AugAssign():
            yield _with(node, op=_OPERATORS[type(node.op)]())
            yield ast.Pass()
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.ExceptHandler(type=ast.Tuple() as caught):
            for place in range(len(caught.elts)):
                yield _with(node, type=_with(caught, elts=[*caught.elts[:place], *caught.elts[place + 1 :]]))
        case ast.ExceptHandler(type=ast.expr()):
            yield _with(node, type=ast.Tuple([], ast.Load()))


def _condition_changes(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """True and False in the place of a condition."""
    match parent:
        case ast.If() | ast.IfExp() | ast.Assert() if node is parent.test:
            yield from (ast.Constant(True), ast.Constant(False))
        case ast.While() if node is parent.test and not isinstance(node, ast.Constant):
            yield ast.Constant(False)
        case ast.comprehension() if node in parent.ifs:
            yield from (ast.Constant(True), ast.Constant(False))
        case ast.match_case() if node is parent.guard:
            yield from (ast.Constant(True), ast.Constant(False))


def _with(node: ast.AST, **changed: object) -> ast.AST:
    """A shallow copy with other fields: what it shares with the original is never mutated in the same tree."""
    made = copy.copy(node)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def _makes_errors(function: ast.FunctionDef) -> bool:
    return function.returns is not None and ast.unparse(function.returns).endswith("Error")


def _is_union(node: ast.expr) -> bool:
    """Whether an expression is of types: names with bars between."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _is_union(node.left) and isinstance(node.right, ast.Name)
    return isinstance(node, ast.Name)


def _is_told(node: ast.AST, parent: ast.AST) -> bool:
    """Whether a part of a fault is what it tells people: all but its code, which comes first."""
    return isinstance(parent, ast.Tuple) and node is not parent.elts[0]


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _holds_text(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Constant) and isinstance(one.value, str | bytes) for one in ast.walk(node))


def _line(node: ast.AST) -> int:
    return next(one.lineno for one in ast.walk(node) if isinstance(one, ast.expr | ast.stmt | ast.excepthandler))


def _text(node: ast.AST) -> str:
    """The code of a node in one line; only the head of what has a body."""
    if isinstance(node, ast.ExceptHandler):
        return f"except {ast.unparse(node.type)}" if node.type else "except"
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
